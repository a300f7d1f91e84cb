#include "client/cli/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>

namespace nabla {
namespace {

using ::testing::HasSubstr;

std::string ReadError(const std::string& text) {
  std::istringstream lines(text);
  return std::string(ReadProblems(&lines).status().message());
}

TEST(EvaluationTest, ReadsNumbersAndTexts) {
  std::istringstream lines(
      "{\"question\": \"a\", \"answer\": 3}\n\n{\"question\": \"b\", \"answer\": \"1 + 1 = 2\\n#### 2\", \"extra\": "
      "[]}\n");
  const auto problems = ReadProblems(&lines);
  ASSERT_TRUE(problems.ok()) << problems.status();
  ASSERT_EQ(problems->size(), 2u);
  EXPECT_EQ((*problems)[0].answer, 3);
  EXPECT_EQ((*problems)[1].question, "b");
  EXPECT_EQ((*problems)[1].answer, 2);
}

TEST(EvaluationTest, ErrorsNameTheLine) {
  EXPECT_EQ(ReadError(""), "no problems in it");
  EXPECT_EQ(ReadError("{\"question\": \"a\", \"answer\": 3}\n{"), "line 2: not a JSON object");
  EXPECT_EQ(ReadError("{\"answer\": 3}"), "line 1: \"question\" must be a string");
  EXPECT_EQ(ReadError("{\"question\": \"a\"}"), "line 1: \"answer\" must be a number or a string");
  EXPECT_EQ(ReadError("{\"question\": \"a\", \"answer\": \"none\"}"), "line 1: \"answer\" holds no number");
}

absl::StatusOr<v1::Finished> Answer(const std::string& question) {
  if (question == "fails") return absl::UnavailableError("gone");
  v1::Finished finished;
  finished.set_text("The answer is " + question);
  finished.set_initial_reward(1);
  finished.set_reward(2);
  finished.mutable_usage()->set_model_calls(10);
  finished.mutable_usage()->set_rollouts(2);
  finished.mutable_usage()->set_completion_tokens(4);
  return finished;
}

TEST(EvaluationTest, CountsRightWrongAndFailed) {
  const std::vector<Problem> problems = {{"1", 1}, {"2", 3}, {"fails", 1}, {"4", 4}};
  std::mutex mu;
  size_t last = 0;
  StrategyScore score = Evaluate("nabla", problems, 3, Answer, [&](size_t done) {
    const std::lock_guard<std::mutex> lock(mu);
    EXPECT_EQ(done, last + 1);
    last = done;
  });
  EXPECT_EQ(last, 4u);
  ASSERT_EQ(score.outcomes.size(), 4u);
  EXPECT_TRUE(score.outcomes[0].correct);
  EXPECT_FALSE(score.outcomes[1].correct);
  EXPECT_EQ(score.outcomes[2].status, absl::UnavailableError("gone"));
  score.seconds = 1.25;
  EXPECT_EQ(FormatTable({score}),
            "| strategy | accuracy | correct/total | failed | model calls | rollouts | completion tokens | reward gain "
            "| seconds |\n"
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
            "| nabla | 50.0% | 2/4 | 1 | 10 | 2 | 4 | 1 | 1.2 |\n");
  const auto json = nlohmann::json::parse(FormatJson(problems, {score}));
  EXPECT_EQ(json["strategies"][0]["failed"], 1);
  EXPECT_EQ(json["strategies"][0]["outcomes"][2]["error"], "UNAVAILABLE: gone");
  EXPECT_EQ(json["strategies"][0]["outcomes"][3]["correct"], true);
}

TEST(EvaluationTest, WithoutAnswersThereAreNoMeans) {
  const StrategyScore score = Evaluate("greedy", {{"fails", 1}}, 1, Answer, [](size_t) {});
  EXPECT_THAT(FormatTable({score}), HasSubstr("| greedy | 0.0% | 0/1 | 1 | – | – | – | – |"));
}

}  // namespace
}  // namespace nabla
