#include "engine/model/kv_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "engine/model/kv_cache.h"

namespace nabla {
namespace {

using testing::ElementsAre;

constexpr int kBlocks = 6;

class KvPoolTest : public testing::Test {
 protected:
  static ModelConfig Config() {
    ModelConfig config;
    config.num_layers = 2, config.num_key_value_heads = 1, config.head_dim = 4;
    return config;
  }
  // A cache that holds `ids`, as a pass would leave it.
  KvCache Holding(const std::vector<int32_t>& ids) {
    KvCache cache(pool_);
    EXPECT_TRUE(cache.Prepare(static_cast<int64_t>(ids.size())).ok());
    cache.Advance(static_cast<int64_t>(ids.size()));
    return cache;
  }
  static std::vector<int32_t> Ids(int count, int first = 0) {
    std::vector<int32_t> ids(count);
    std::iota(ids.begin(), ids.end(), first);
    return ids;
  }

  const std::shared_ptr<KvPool> pool_ =
      std::make_shared<KvPool>(Config(), kBlocks* kBlockTokens, torch::kFloat32, torch::kCPU);
};

TEST_F(KvPoolTest, BytesOfATokenAreThoseOfItsKeysAndValuesInAllLayers) {
  EXPECT_EQ(KvPool::BytesPerToken(Config(), torch::kFloat32), 2 * 2 * 4 * 4);
  EXPECT_EQ(KvPool::BytesPerToken(Config(), torch::kBFloat16), 2 * 2 * 4 * 2);
  EXPECT_EQ(pool_->load().capacity_tokens, 96);
}

TEST_F(KvPoolTest, ReservationsStayWithinTheBudget) {
  EXPECT_TRUE(pool_->TryReserve(60));
  EXPECT_FALSE(pool_->TryReserve(37));
  EXPECT_TRUE(pool_->TryReserve(36));
  pool_->Release(60);
  EXPECT_TRUE(pool_->TryReserve(60));
  EXPECT_EQ(pool_->load().reserved_tokens, 96);
}

TEST_F(KvPoolTest, BlocksComeBackWhenTheirSequenceGoes) {
  {
    const KvCache cache = Holding(Ids(40));
    EXPECT_EQ(cache.blocks().size(), 3u);
    EXPECT_EQ(pool_->load().free_tokens, 48);
  }
  EXPECT_EQ(pool_->load().free_tokens, 96);
}

TEST_F(KvPoolTest, WhereAllBlocksAreTakenTheErrorSaysWhatToDo) {
  KvCache cache = Holding(Ids(90));
  KvCache other(pool_);
  EXPECT_EQ(other.Prepare(1), absl::ResourceExhaustedError("all 96 positions of key/value memory are taken; raise "
                                                           "kv_cache_bytes or run fewer requests at once"));
  cache.Truncate(80);
  EXPECT_TRUE(other.Prepare(16).ok());
}

TEST_F(KvPoolTest, AForkSharesWholeBlocksAndCopiesTheOneItWritesInto) {
  KvCache cache = Holding(Ids(40));
  pool_->keys()[cache.blocks()[1]].fill_(7);
  KvCache fork = cache.Fork(20);
  EXPECT_EQ(fork.length(), 20);
  EXPECT_THAT(fork.blocks(), ElementsAre(cache.blocks()[0], cache.blocks()[1]));
  ASSERT_TRUE(fork.Prepare(1).ok());
  EXPECT_EQ(fork.blocks()[0], cache.blocks()[0]);
  EXPECT_NE(fork.blocks()[1], cache.blocks()[1]);
  EXPECT_TRUE(torch::equal(pool_->keys()[fork.blocks()[1]], pool_->keys()[cache.blocks()[1]]));
  // With the other holder gone, nothing is left to protect.
  KvCache second = cache.Fork(20);
  cache.Truncate(0);
  const int32_t last = second.blocks()[1];
  ASSERT_TRUE(second.Prepare(1).ok());
  EXPECT_EQ(second.blocks()[1], last);
}

TEST_F(KvPoolTest, PublishedPromptsAreFoundByTheirTokensUpToTheFirstDifference) {
  std::vector<int32_t> ids = Ids(40);
  std::vector<int32_t> blocks;
  {
    const KvCache cache = Holding(ids);
    cache.Publish(ids);
    blocks = cache.blocks();
  }
  KvCache same(pool_);
  EXPECT_EQ(same.StartFrom(ids), 32);
  EXPECT_THAT(same.blocks(), ElementsAre(blocks[0], blocks[1]));
  ids[20] = 999;
  KvCache differs(pool_);
  EXPECT_EQ(differs.StartFrom(ids), 16);
  KvCache other(pool_);
  EXPECT_EQ(other.StartFrom(Ids(40, 1)), 0);
  EXPECT_EQ(pool_->load().prefix_hit_tokens, 48);
}

TEST_F(KvPoolTest, TheLastTokenOfAPromptIsAlwaysLeftToRun) {
  const KvCache cache = Holding(Ids(32));
  cache.Publish(Ids(32));
  KvCache same(pool_);
  EXPECT_EQ(same.StartFrom(Ids(32)), 16);
}

TEST_F(KvPoolTest, WantedMemoryTakesTheLeastRecentlyUsedPromptsLastBlockFirst) {
  const std::vector<int32_t> old = Ids(33), young = Ids(33, 100);
  Holding(old).Publish(old);
  Holding(young).Publish(young);
  EXPECT_EQ(KvCache(pool_).StartFrom(old), 32) << "used again, so the other is the older one now";
  const KvCache wanted = Holding(Ids(48, 500));  // two free blocks, and one more
  EXPECT_EQ(KvCache(pool_).StartFrom(young), 16);
  EXPECT_EQ(KvCache(pool_).StartFrom(old), 32);
}

// Two requests that begin alike and run at once: neither must keep the other's blocks when that one has gone.
TEST_F(KvPoolTest, WhatNoSequenceHoldsCanAlwaysBeTaken) {
  std::vector<int32_t> first = Ids(32), second = Ids(32);
  second[20] = 999;
  KvCache one = Holding(first), other = Holding(second);
  one.Publish(first);
  other.Publish(second);
  one = KvCache(pool_);
  const KvCache rest = Holding(Ids(64, 500));  // all but what `other` holds
  EXPECT_EQ(pool_->load().free_tokens, 0);
}

TEST_F(KvPoolTest, PublishedBlocksThatASequenceHoldsAreNotTaken) {
  const std::vector<int32_t> ids = Ids(33);
  Holding(ids).Publish(ids);
  KvCache holder(pool_);
  EXPECT_EQ(holder.StartFrom(ids), 32);
  const KvCache rest = Holding(Ids(64, 500));
  EXPECT_THAT(pool_->Take(), testing::Eq(std::nullopt));
}

}  // namespace
}  // namespace nabla
