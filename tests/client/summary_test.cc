#include "client/cli/summary.h"

#include <gtest/gtest.h>

namespace nabla {
namespace {

TEST(SummaryTest, TellsWhatARevisionGained) {
  v1::Revision revision;
  revision.set_position(14);
  revision.set_old_text(" 15\n");
  revision.set_new_text(" ×");
  EXPECT_EQ(FormatRevision(revision), "revised token 14: \" 15\\n\" → \" ×\"");
  revision.set_reward_before(-0.1);
  revision.set_reward_after(1.4);
  EXPECT_EQ(FormatRevision(revision), "revised token 14: \" 15\\n\" → \" ×\"   reward -0.1 → 1.4");
}

TEST(SummaryTest, TellsWhatTheAnswerCost) {
  v1::Finished finished;
  finished.mutable_usage()->set_completion_tokens(5);
  finished.mutable_usage()->set_model_calls(5);
  finished.mutable_usage()->mutable_total_time()->set_nanos(250000000);
  EXPECT_EQ(FormatSummary(finished), "5 tokens · 5 model calls · 0.2 s");
  finished.set_initial_reward(-1.5);
  finished.set_reward(1.9);
  finished.mutable_usage()->set_rollouts(4);
  finished.mutable_usage()->set_revisions_accepted(2);
  finished.mutable_usage()->set_revisions_rejected(1);
  finished.mutable_usage()->set_gradient_steps(60);
  EXPECT_EQ(
      FormatSummary(finished),
      "reward -1.5 → 1.9 · 4 rollouts · 2 accepted, 1 rejected · 5 tokens · 5 model calls · 60 gradient steps · 0.2 s");
}

}  // namespace
}  // namespace nabla
