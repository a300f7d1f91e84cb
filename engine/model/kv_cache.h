// Keys and values of one sequence, all layers, at a capacity fixed when it is made. Includes torch.
//
//   KvCache cache(model.config(), capacity, dtype, device);
//   body.Extend(embeddings, cache);               // appends
//   KvCache::Tail tail = cache.CopyTail(40);      // set positions 40… aside
//   cache.Truncate(40); … cache.RestoreTail(tail);
//
// Not thread-safe; owned by the request that decodes it. Layout per layer: [key/value heads, capacity, head dimension].
#ifndef NABLA_ENGINE_MODEL_KV_CACHE_H_
#define NABLA_ENGINE_MODEL_KV_CACHE_H_

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "engine/model/model_config.h"

namespace nabla {

class KvCache {
 public:
  // What was behind a position, to be put back.
  struct Tail {
    int64_t begin = 0;
    std::vector<torch::Tensor> keys, values;  // one a layer
  };

  KvCache(const ModelConfig& config, int64_t capacity, torch::ScalarType dtype, torch::Device device);

  // Appends keys and values [heads, n, head dimension] of one layer at `position`; the length grows by SetLength once
  // all layers have.
  void Write(int64_t layer, int64_t position, const torch::Tensor& keys, const torch::Tensor& values);
  torch::Tensor Keys(int64_t layer, int64_t length) const { return keys_[layer].narrow(1, 0, length); }
  torch::Tensor Values(int64_t layer, int64_t length) const { return values_[layer].narrow(1, 0, length); }

  int64_t length() const { return length_; }
  int64_t capacity() const { return capacity_; }
  void SetLength(int64_t length) { length_ = length; }
  void Truncate(int64_t length) { length_ = std::min(length_, length); }

  Tail CopyTail(int64_t begin) const;
  void RestoreTail(const Tail& tail);

 private:
  int64_t capacity_;
  int64_t length_ = 0;
  std::vector<torch::Tensor> keys_, values_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_KV_CACHE_H_
