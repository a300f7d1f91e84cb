#include "client/cli/evaluation_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"

namespace nabla {
namespace {

using ::testing::HasSubstr;

v1::ReasonRequest Question(const std::string& text) {
  v1::ReasonRequest request;
  request.set_prompt(text);
  request.mutable_best_of_n()->set_candidates(4);
  return request;
}

v1::Finished Answer(const std::string& text) {
  v1::Finished finished;
  finished.set_text(text);
  finished.mutable_usage()->set_model_calls(7);
  return finished;
}

class EvaluationRecordsTest : public testing::Test {
 protected:
  EvaluationRecordsTest() { server_.mutable_model()->set_name("writer"); }
  ~EvaluationRecordsTest() override { unlink(path_.c_str()); }

  std::unique_ptr<EvaluationRecords> Open() const { return EvaluationRecords::Open(path_, server_).value(); }

  const std::string path_ = absl::StrCat(testing::TempDir(), "/nabla_records_", getpid(), ".jsonl");
  v1::GetInfoResponse server_;
};

TEST_F(EvaluationRecordsTest, AnInterruptedRunGoesOn) {
  {
    const auto records = Open();
    EXPECT_EQ(records->Find(Question("a")), nullptr);
    ASSERT_TRUE(records->Add(Question("a"), Answer("1\n\"2\"")).ok());
    ASSERT_TRUE(records->Add(Question("b"), Answer("3")).ok());
    EXPECT_EQ(records->Find(Question("a"))->text(), "1\n\"2\"");
  }
  std::ofstream(path_, std::ios::app) << "{\"model\": \"wri";  // killed while it wrote
  {
    const auto records = Open();
    EXPECT_EQ(records->size(), 2u);
    EXPECT_EQ(records->Find(Question("a"))->usage().model_calls(), 7u);
    EXPECT_EQ(records->Find(Question("c")), nullptr);
    ASSERT_TRUE(records->Add(Question("c"), Answer("4")).ok());
  }
  EXPECT_EQ(Open()->Find(Question("c"))->text(), "4");
}

TEST_F(EvaluationRecordsTest, OtherModelsAndOtherSettingsAreOtherQuestions) {
  ASSERT_TRUE(Open()->Add(Question("a"), Answer("1")).ok());
  v1::ReasonRequest other = Question("a");
  other.mutable_best_of_n()->set_candidates(8);
  EXPECT_EQ(Open()->Find(other), nullptr);
  server_.mutable_reward_model()->set_name("judge");
  EXPECT_EQ(Open()->Find(Question("a")), nullptr);
}

TEST_F(EvaluationRecordsTest, ErrorsNameFileAndLine) {
  std::ofstream(path_) << "\n{\"question\": \"a\"}\n";
  EXPECT_EQ(EvaluationRecords::Open(path_, server_).status().message(),
            path_ + ": line 2 is no record of an evaluation; name another file");
  EXPECT_EQ(EvaluationRecords::Open("/nowhere/a", server_).status().message(), "cannot write /nowhere/a");
}

}  // namespace
}  // namespace nabla
