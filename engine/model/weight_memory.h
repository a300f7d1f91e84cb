// Memory for copies of weights, which every decoded token reads from end to end. Includes torch.
//
//   WeightMemory memory;
//   torch::Tensor copy = memory.Empty({512, 192}, torch::kBFloat16);   // one behind another, each on a cache line
//
// A few large pieces, in huge pages where the system has them: matrices that are allocated one by one lie scattered in
// small pages, which are read at three quarters of the rate and less (SmolLM2 in bfloat16, a decode step: 9.9 and 8.5
// ms, in a quieter hour 7.4 and 5.8). A piece lives as long as any of its tensors. Not thread-safe; tensors are.
#ifndef NABLA_ENGINE_MODEL_WEIGHT_MEMORY_H_
#define NABLA_ENGINE_MODEL_WEIGHT_MEMORY_H_

#include <torch/torch.h>

#include <cstdint>
#include <memory>

namespace nabla {

// Weights of a model that come to no more bytes may stay in the cores' caches: copies of them are made at once and cost
// little, and reading them again costs no wait for memory.
inline constexpr int64_t kMostCachedBytes = int64_t{64} << 20;

class WeightMemory {
 public:
  // Of a CPU, not initialised. Throws c10::Error where there is no memory left.
  torch::Tensor Empty(at::IntArrayRef shape, torch::ScalarType type);

 private:
  std::shared_ptr<char> piece_;
  int64_t used_ = 0, size_ = 0;  // bytes of it
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_WEIGHT_MEMORY_H_
