#include "engine/model/weight_memory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace nabla {
namespace {

TEST(WeightMemory, TensorsHoldTheirNumbersWithoutTouchingEachOther) {
  WeightMemory memory;
  std::vector<torch::Tensor> tensors;
  for (int i = 0; i < 20; ++i) {
    tensors.push_back(memory.Empty({i, 33}, i % 2 == 0 ? torch::kFloat32 : torch::kBFloat16).fill_(i));
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(tensors[i].sizes(), (std::vector<int64_t>{i, 33}));
    EXPECT_TRUE(tensors[i].eq(i).all().item<bool>()) << i;
  }
}

TEST(WeightMemory, BeginsOnACacheLine) {
  WeightMemory memory;
  for (const int64_t count : {1, 3, 100, 7}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.Empty({count}, torch::kInt8).data_ptr()) % 64, 0u) << count;
  }
}

TEST(WeightMemory, LiesOneBehindAnother) {
  WeightMemory memory;
  const torch::Tensor first = memory.Empty({16, 4}, torch::kFloat32), second = memory.Empty({8}, torch::kFloat32);
  EXPECT_EQ(static_cast<char*>(first.data_ptr()) + 256, second.data_ptr());
}

TEST(WeightMemory, HasRoomForMoreThanOnePiece) {
  WeightMemory memory;
  const int64_t numbers = int64_t{40} << 20;
  const torch::Tensor first = memory.Empty({numbers}, torch::kInt8), second = memory.Empty({numbers}, torch::kInt8),
                      large = memory.Empty({3 * numbers}, torch::kInt8);
  first[numbers - 1] = 1, second[numbers - 1] = 2, large[3 * numbers - 1] = 3;
  EXPECT_EQ(first[numbers - 1].item<int>(), 1);
  EXPECT_EQ(second[numbers - 1].item<int>(), 2);
  EXPECT_EQ(large[3 * numbers - 1].item<int>(), 3);
}

TEST(WeightMemory, TensorsOutliveIt) {
  std::optional<WeightMemory> memory(std::in_place);
  const torch::Tensor tensor = memory->Empty({1000}, torch::kFloat32).fill_(5);
  memory.reset();
  EXPECT_TRUE(tensor.eq(5).all().item<bool>());
}

}  // namespace
}  // namespace nabla
