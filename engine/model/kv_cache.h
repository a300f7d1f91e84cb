// Keys and values of one sequence: a list of blocks of a KvPool. Includes torch.
//
//   KvCache cache(pool);
//   model.Extend(…);                        // appends
//   KvCache before = cache.Fork(40);        // the same first 40 positions; what is whole is shared, not copied
//   cache.Truncate(40);
//
// Not thread-safe; owned by the request that decodes it. Returns its blocks when it goes.
#ifndef NABLA_ENGINE_MODEL_KV_CACHE_H_
#define NABLA_ENGINE_MODEL_KV_CACHE_H_

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/model/kv_pool.h"

namespace nabla {

class KvCache {
 public:
  explicit KvCache(std::shared_ptr<KvPool> pool) : pool_(std::move(pool)) {}
  ~KvCache() { Truncate(0); }
  KvCache(KvCache&& other) noexcept { *this = std::move(other); }
  KvCache& operator=(KvCache&& other) noexcept;

  // Takes over what others have published of `ids`, which must be new to an empty cache. Returns the positions found:
  // whole blocks, and never all of `ids`, since somebody must run the last token to know what follows it.
  int64_t StartFrom(absl::Span<const int32_t> ids);
  // Offers the whole blocks of the first ids.size() positions, which hold `ids`.
  void Publish(absl::Span<const int32_t> ids) const { pool_->Publish(ids, blocks_); }

  // Makes positions [length, length + count) writable. RESOURCE_EXHAUSTED where the pool has no block left.
  absl::Status Prepare(int64_t count);
  void Advance(int64_t count) { length_ += count; }  // behind the pass that wrote them
  void Truncate(int64_t length);
  KvCache Fork(int64_t length) const;  // `length` ≤ this one's

  int64_t length() const { return length_; }
  const std::vector<int32_t>& blocks() const { return blocks_; }
  KvPool& pool() const { return *pool_; }

  // One layer's keys and values of the first `length` positions, copied together: [key/value heads, length, head
  // dimension].
  std::pair<torch::Tensor, torch::Tensor> Gather(int64_t layer, int64_t length) const;
  // Puts one layer's keys and values [key/value heads, n, head dimension] behind the present length, into blocks that
  // Prepare has made writable. The kernels of a CPU write by themselves.
  void Write(int64_t layer, const torch::Tensor& keys, const torch::Tensor& values);

 private:
  std::shared_ptr<KvPool> pool_;
  int64_t length_ = 0;
  std::vector<int32_t> blocks_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_KV_CACHE_H_
