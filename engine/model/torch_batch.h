// The slices of one pass as tensors on a device that is no CPU: where their rows are in the key/value pool, made once
// for all layers, so that a layer starts as few kernels as its mathematics take. Includes torch.
//
//   const TorchBatch batch(slices, device);
//   batch.Write(layer, keys, values);                  // of all rows
//   torch::Tensor mixed = batch.Attend(layer, query);  // [n, heads · head dimension]
//
// n rows in all. Sequences with one new token each share their attention's products, padded to the longest of them;
// others attend by themselves. Refers to the pool; belongs to one pass. Source of the layout: KvPool.
#ifndef NABLA_ENGINE_MODEL_TORCH_BATCH_H_
#define NABLA_ENGINE_MODEL_TORCH_BATCH_H_

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/model/decoder_weights.h"
#include "engine/model/kv_pool.h"

namespace nabla {

// query [heads, n, head dimension], keys and values [key/value heads, T, head dimension]; each key/value head serves a
// group of query heads, and row i sees everything up to T − n + i. Returns [n, heads · head dimension] in the type of
// `query`.
torch::Tensor CausalAttention(const torch::Tensor& query, const torch::Tensor& keys, const torch::Tensor& values);

class TorchBatch {
 public:
  TorchBatch(absl::Span<const Slice> slices, torch::Device device);

  const torch::Tensor& ids() const { return ids_; }              // int64 [n]
  const torch::Tensor& positions() const { return positions_; }  // int64 [n]

  // keys and values [key/value heads, n, head dimension], those rotated.
  void Write(int64_t layer, const torch::Tensor& keys, const torch::Tensor& values) const;
  torch::Tensor Attend(int64_t layer, const torch::Tensor& query) const;

 private:
  // Neighbouring slices that attend together: one of several rows, or some of one row.
  struct Group {
    int64_t begin = 0, rows = 0, sequences = 0;
    int64_t blocks = 0;   // of the longest
    int64_t length = 0;   // of a single sequence, its new rows included
    torch::Tensor table;  // int64 [sequences · blocks]
    torch::Tensor mask;   // float32 [sequences, 1, 1, blocks · kBlockTokens]: −∞ behind a sequence's end
  };

  torch::Tensor AttendTogether(const Group& group, const torch::Tensor& query, const torch::Tensor& keys,
                               const torch::Tensor& values) const;

  KvPool* pool_ = nullptr;
  torch::Tensor ids_, positions_, blocks_, offsets_;
  std::vector<Group> groups_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_TORCH_BATCH_H_
