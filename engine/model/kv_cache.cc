#include "engine/model/kv_cache.h"

namespace nabla {

KvCache::KvCache(const ModelConfig& config, int64_t capacity, torch::ScalarType dtype, torch::Device device)
    : capacity_(capacity) {
  const auto options = torch::TensorOptions(dtype).device(device);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    keys_.push_back(torch::empty({config.num_key_value_heads, capacity, config.head_dim}, options));
    values_.push_back(torch::empty({config.num_key_value_heads, capacity, config.head_dim}, options));
  }
}

void KvCache::Write(int64_t layer, int64_t position, const torch::Tensor& keys, const torch::Tensor& values) {
  const int64_t count = keys.size(1);
  keys_[layer].narrow(1, position, count).copy_(keys);
  values_[layer].narrow(1, position, count).copy_(values);
}

KvCache::Tail KvCache::CopyTail(int64_t begin) const {
  Tail tail{.begin = begin};
  const int64_t count = std::max<int64_t>(length_ - begin, 0);
  for (size_t layer = 0; layer < keys_.size(); ++layer) {
    tail.keys.push_back(keys_[layer].narrow(1, begin, count).clone());
    tail.values.push_back(values_[layer].narrow(1, begin, count).clone());
  }
  return tail;
}

void KvCache::RestoreTail(const Tail& tail) {
  for (size_t layer = 0; layer < keys_.size(); ++layer) Write(layer, tail.begin, tail.keys[layer], tail.values[layer]);
  SetLength(tail.begin + tail.keys.front().size(1));
}

}  // namespace nabla
