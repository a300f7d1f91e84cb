#include "server/reward_context_cache.h"

#include <gtest/gtest.h>

#include "tests/server/fake_reward_model.h"

namespace nabla {
namespace {

const std::vector<ChatMessage> kQuestion = {{"user", "How many?"}};
const std::vector<ChatMessage> kOther = {{"user", "How old?"}};

class RewardContextCacheTest : public testing::Test {
 protected:
  RewardContextCache::Options Options(int max_idle = 4) {
    return {.max_idle = max_idle, .max_idle_time = absl::Seconds(60), .now = [this] { return now_; }};
  }

  FakeRewardModel model_;
  absl::Time now_ = absl::UnixEpoch();
};

TEST_F(RewardContextCacheTest, TheNextCallOfAConversationFindsItsContext) {
  RewardContextCache contexts(&model_, Options());
  EXPECT_EQ(contexts.Acquire(kQuestion, 8).value()->work().forward_tokens, 5) << "opening counts for who opened";
  EXPECT_EQ(contexts.Acquire(kQuestion, 8).value()->work().forward_tokens, 0);
  EXPECT_EQ(model_.opened(), 1);
  contexts.Acquire(kQuestion, 9).value();
  contexts.Acquire(kOther, 8).value();
  EXPECT_EQ(model_.opened(), 3);
  EXPECT_EQ(contexts.idle(), 3);
}

TEST_F(RewardContextCacheTest, MessagesThatReadAlikeWhenJoinedAreKeptApart) {
  RewardContextCache contexts(&model_, Options());
  contexts.Acquire({{"user", "ab"}, {"user", "c"}}, 8).value();
  contexts.Acquire({{"user", "a"}, {"user", "bc"}}, 8).value();
  EXPECT_EQ(model_.opened(), 2);
}

TEST_F(RewardContextCacheTest, TwoCallsOfAConversationAtOnceHaveAContextEach) {
  RewardContextCache contexts(&model_, Options());
  {
    const auto first = contexts.Acquire(kQuestion, 8).value();
    const auto second = contexts.Acquire(kQuestion, 8).value();
    EXPECT_NE(&first->context(), &second->context());
  }
  EXPECT_EQ(contexts.idle(), 2);
}

TEST_F(RewardContextCacheTest, TheOneUsedLongestAgoGivesWay) {
  RewardContextCache contexts(&model_, Options(/*max_idle=*/2));
  contexts.Acquire(kQuestion, 1).value();
  contexts.Acquire(kQuestion, 2).value();
  contexts.Acquire(kQuestion, 1).value();
  contexts.Acquire(kQuestion, 3).value();  // closes that of 2
  EXPECT_EQ(contexts.idle(), 2);
  EXPECT_EQ(model_.opened(), 3);
  contexts.Acquire(kQuestion, 1).value();
  EXPECT_EQ(model_.opened(), 3);
  contexts.Acquire(kQuestion, 2).value();
  EXPECT_EQ(model_.opened(), 4);
}

TEST_F(RewardContextCacheTest, IdleContextsAreClosedInTime) {
  RewardContextCache contexts(&model_, Options());
  contexts.Acquire(kQuestion, 8).value();
  now_ += absl::Seconds(61);
  contexts.Acquire(kOther, 8).value();
  EXPECT_EQ(contexts.idle(), 1);
  EXPECT_EQ(model_.opened(), 2);
}

TEST_F(RewardContextCacheTest, IdleContextsGiveWayWhereMemoryRunsOut) {
  RewardContextCache contexts(&model_, Options());
  contexts.Acquire(kQuestion, 1).value();
  contexts.Acquire(kQuestion, 2).value();
  contexts.Acquire(kQuestion, 3).value();
  model_.Fail(absl::ResourceExhaustedError("no key/value memory"), /*times=*/2);
  EXPECT_TRUE(contexts.Acquire(kOther, 8).ok());
  EXPECT_EQ(contexts.idle(), 2) << "one is left, and the new one";
  model_.Fail(absl::ResourceExhaustedError("no key/value memory"), /*times=*/9);
  EXPECT_EQ(contexts.Acquire(kOther, 9).status(), absl::ResourceExhaustedError("no key/value memory"));
  EXPECT_EQ(contexts.idle(), 0);
}

TEST_F(RewardContextCacheTest, AContextStopsForTheCallThatUsesItAlone) {
  RewardContextCache contexts(&model_, Options());
  const std::vector<int32_t> response = {1};
  StopToken gone;
  {
    const auto lease = contexts.Acquire(kQuestion, 8, &gone).value();
    EXPECT_TRUE(lease->context().Score(response).ok());
    gone.Stop(StopToken::Reason::kCancelled);
    EXPECT_EQ(lease->context().Score(response).status().code(), absl::StatusCode::kCancelled);
  }
  const StopToken waits;
  EXPECT_TRUE(contexts.Acquire(kQuestion, 8, &waits).value()->context().Score(response).ok());
  EXPECT_EQ(model_.opened(), 1);
}

TEST_F(RewardContextCacheTest, ADiscardedContextDoesNotComeBack) {
  RewardContextCache contexts(&model_, Options());
  contexts.Acquire(kQuestion, 8).value()->Discard();
  EXPECT_EQ(contexts.idle(), 0);
}

}  // namespace
}  // namespace nabla
