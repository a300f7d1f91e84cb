#include "engine/reward/embedding_projection.h"

#include <gtest/gtest.h>

#include "absl/status/status.h"
#include "engine/decode/batcher.h"

namespace nabla {
namespace {

EmbeddingTable Table() {
  static const float numbers[] = {1, 2, 3, 4, 5, 6};
  return {.dtype = "float32",
          .vocabulary_size = 3,
          .hidden_size = 2,
          .bytes = absl::string_view(reinterpret_cast<const char*>(numbers), sizeof(numbers))};
}

TEST(EmbeddingProjectionTest, MultipliesEveryRowWithEveryToken) {
  const auto projection = EmbeddingProjection::Create(Table(), "cpu", nullptr).value();
  const std::vector<float> gradient = {1, 10, -1, 0};
  EXPECT_EQ(projection->Project(gradient, 2).value(), (std::vector<float>{21, 43, 65, -1, -3, -5}));
}

TEST(EmbeddingProjectionTest, RunsOnTheBatcherWhereThereIsOne) {
  Batcher batcher({});
  const auto projection = EmbeddingProjection::Create(Table(), "cpu", &batcher).value();
  EXPECT_EQ(projection->Project(std::vector<float>{1, 0}, 1).value(), (std::vector<float>{1, 3, 5}));
}

TEST(EmbeddingProjectionTest, KeepsTheTableAlive) {
  EmbeddingTable table = Table();
  const auto owner = std::make_shared<int>(0);
  table.owner = owner;
  const auto projection = EmbeddingProjection::Create(std::move(table), "cpu", nullptr).value();
  EXPECT_GT(owner.use_count(), 1);
}

TEST(EmbeddingProjectionTest, ATableThatDoesNotFitItselfIsRefused) {
  EmbeddingTable table = Table();
  table.vocabulary_size = 4;
  EXPECT_EQ(EmbeddingProjection::Create(table, "cpu", nullptr).status(),
            absl::InvalidArgumentError("embedding: has 24 bytes; 4 tokens of 2 float32 numbers are 32"));
  table.dtype = "int8";
  EXPECT_EQ(EmbeddingProjection::Create(table, "cpu", nullptr).status(),
            absl::InvalidArgumentError("embedding: dtype is \"int8\"; expected float32 or bfloat16"));
  EXPECT_EQ(EmbeddingProjection::Create(Table(), "tpu", nullptr).status(),
            absl::InvalidArgumentError("device is \"tpu\"; expected cpu, cuda:N or auto"));
}

}  // namespace
}  // namespace nabla
