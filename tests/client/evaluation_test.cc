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
  EXPECT_EQ((*problems)[0].answer.number, 3);
  EXPECT_EQ((*problems)[1].question, "b");
  EXPECT_EQ((*problems)[1].answer.number, 2);
}

TEST(EvaluationTest, NumbersKeepAllTheirDigits) {
  std::istringstream lines("{\"question\": \"a\", \"answer\": 12345678}\n");
  EXPECT_EQ(ReadProblems(&lines)->front().answer.number, 12345678);
}

TEST(EvaluationTest, ReadsTheLayoutOfMath) {
  std::istringstream lines(
      "{\"problem\": \"a\", \"solution\": \"so \\\\boxed{\\\\frac{1}{2}}.\"}\n"
      "{\"problem\": \"b\", \"solution\": \"long\", \"answer\": \"x^2 + 1\"}\n");
  const auto problems = ReadProblems(&lines);
  ASSERT_TRUE(problems.ok()) << problems.status();
  EXPECT_EQ((*problems)[0].answer.number, 0.5);
  EXPECT_EQ((*problems)[1].answer.text, "x^2+1");
}

TEST(EvaluationTest, ErrorsNameTheLine) {
  EXPECT_EQ(ReadError(""), "no problems in it");
  EXPECT_EQ(ReadError("{\"question\": \"a\", \"answer\": 3}\n{"), "line 2: not a JSON object");
  EXPECT_EQ(ReadError("{\"answer\": 3}"), "line 1: \"question\" (or \"problem\") must be a text");
  EXPECT_EQ(ReadError("{\"question\": \"a\"}"), "line 1: \"answer\" must be a number or a text");
  EXPECT_EQ(ReadError("{\"question\": \"a\", \"answer\": null, \"solution\": \"2\"}"),
            "line 1: \"answer\" must be a number or a text");
  EXPECT_EQ(ReadError("{\"question\": \"a\", \"answer\": \" \"}"), "line 1: \"answer\" is empty");
  EXPECT_EQ(ReadError("{\"question\": \"a\", \"solution\": \"2\"}"),
            "line 1: there is no \"answer\", and \"solution\" marks none by \\boxed{…} or ####");
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
  finished.mutable_usage()->mutable_total_time()->set_nanos(250'000'000);
  finished.mutable_usage()->mutable_language_model()->set_forward_tokens(6);
  finished.mutable_usage()->mutable_draft_model()->set_forward_tokens(1);
  finished.mutable_usage()->mutable_language_model()->set_backward_tokens(3);
  finished.mutable_usage()->mutable_reward_model()->set_forward_tokens(5);
  finished.mutable_usage()->mutable_reward_model()->set_backward_tokens(2);
  return finished;
}

TEST(EvaluationTest, CountsRightWrongAndFailed) {
  const std::vector<Problem> problems = {
      {"1", ParseAnswer("1")}, {"2", ParseAnswer("3")}, {"fails", ParseAnswer("1")}, {"4", ParseAnswer("4")}};
  std::mutex mu;
  size_t last = 0;
  StrategyScore score = Evaluate(
      "nabla", problems, 3, [&](size_t i) { return Answer(problems[i].question); },
      [&](size_t done) {
        const std::lock_guard<std::mutex> lock(mu);
        EXPECT_EQ(done, last + 1);
        last = done;
      });
  EXPECT_EQ(last, 4u);
  ASSERT_EQ(score.outcomes.size(), 4u);
  EXPECT_TRUE(score.outcomes[0].correct);
  EXPECT_FALSE(score.outcomes[1].correct);
  EXPECT_EQ(score.outcomes[2].status, absl::UnavailableError("gone"));
  StrategyScore baseline = score;
  baseline.strategy = "greedy";
  baseline.outcomes[0].correct = baseline.outcomes[3].correct = false;
  EXPECT_EQ(
      FormatTable({baseline, score}),
      "| strategy | accuracy, % | over greedy, points | failed | model calls | language model tokens | reward model "
      "tokens | reward gain | seconds |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
      "| greedy | 0.0 (0.0 … 0.0) | – | 1 | 10 | 7 / 3 | 5 / 2 | 1 | 0.25 |\n"
      "| nabla | 50.0 (0.0 … 100.0) | +50.0 (+0.0 … +100.0) | 1 | 10 | 7 / 3 | 5 / 2 | 1 | 0.25 |\n");
  const auto json = nlohmann::json::parse(FormatJson(problems, {score}));
  EXPECT_EQ(json["strategies"][0]["failed"], 1);
  EXPECT_EQ(json["strategies"][0]["outcomes"][2]["error"], "UNAVAILABLE: gone");
  EXPECT_EQ(json["strategies"][0]["outcomes"][3]["correct"], true);
  EXPECT_EQ(json["strategies"][0]["accuracy"]["mean"], 0.5);
  EXPECT_EQ(json["strategies"][0]["means"]["reward_backward_tokens"], 2);
}

TEST(EvaluationTest, WithoutAnswersThereAreNoMeans) {
  const StrategyScore score = Evaluate(
      "greedy", {{"fails", ParseAnswer("1")}}, 1, [](size_t) { return Answer("fails"); }, [](size_t) {});
  EXPECT_THAT(FormatTable({score}), HasSubstr("| greedy | 0.0 (0.0 … 0.0) | – | 1 | – | – / – | – / – | – | – |"));
}

}  // namespace
}  // namespace nabla
