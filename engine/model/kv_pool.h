// Key/value memory of one model under a fixed budget, in blocks of kBlockTokens positions that sequences share.
// Includes torch.
//
//   auto pool = std::make_shared<KvPool>(config, /*tokens=*/16384, dtype, device);
//   KvCache cache(pool);                                  // takes and returns blocks as it grows and shrinks
//   int64_t hit = cache.StartFrom(prompt);                // blocks of an equal prompt run before, by any request
//   cache.Publish(prompt);                                // and offers its own
//
// Blocks are counted; one that several sequences hold is never written. Whole blocks of prompts stay findable after
// their last holder has gone, until the memory is wanted (least recently used first). Thread-safe: short locks, nothing
// blocks. Writing into blocks is for the engine's execution thread alone.
#ifndef NABLA_ENGINE_MODEL_KV_POOL_H_
#define NABLA_ENGINE_MODEL_KV_POOL_H_

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/types/span.h"
#include "engine/kernels/attention.h"
#include "engine/model/model_config.h"

namespace nabla {

using kernels::kBlockTokens;

class KvPool {
 public:
  // Room for `tokens` positions, rounded up to whole blocks. Memory is touched as it is used.
  KvPool(const ModelConfig& config, int64_t tokens, torch::ScalarType dtype, torch::Device device);

  // Bytes of one position of all layers.
  static int64_t BytesPerToken(const ModelConfig& config, torch::ScalarType dtype);

  // [blocks, layers, key/value heads, head dimension, kBlockTokens] and […, kBlockTokens, head dimension].
  const torch::Tensor& keys() const { return keys_; }
  const torch::Tensor& values() const { return values_; }
  int64_t blocks() const { return keys_.size(0); }
  int64_t layers() const { return keys_.size(1); }
  kernels::KvBlocks Layer(int64_t layer) const;  // on a CPU

  // Positions promised to requests, so that what they take later is there. False: not enough is left.
  bool TryReserve(int64_t tokens);
  void Release(int64_t tokens);

  // A block of the caller's own; nothing where every block is held by a sequence.
  std::optional<int32_t> Take();
  void Hold(int32_t block);
  void Drop(int32_t block);
  bool Shared(int32_t block) const;

  // The published blocks that hold the first tokens of `ids`, whole blocks only; held for the caller.
  std::vector<int32_t> Find(absl::Span<const int32_t> ids);
  // Offers blocks[i], which holds tokens [i · kBlockTokens, …) of `ids`, to others; up to the first that is already on
  // offer as another block. So whoever holds a published block holds all that it stands on.
  void Publish(absl::Span<const int32_t> ids, absl::Span<const int32_t> blocks);

  struct Load {
    int64_t reserved_tokens = 0;  // promised
    int64_t free_tokens = 0;      // in blocks that neither a sequence nor a published prompt holds
    int64_t capacity_tokens = 0;
    int64_t prefix_hit_tokens = 0;  // found by Find, since the start
  };
  Load load() const;

 private:
  // A published block is known by its tokens and by the one before it, so no hash decides what is equal.
  using Key = std::pair<int64_t, std::array<int32_t, kBlockTokens>>;
  struct Published {
    int32_t block = 0;
    int64_t parent = 0;
    int children = 0;
    std::map<Key, int64_t>::iterator key;
    std::list<int64_t>::iterator age;
  };

  bool Evict() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropLocked(int32_t block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  torch::Tensor keys_, values_;
  const int64_t capacity_tokens_;

  mutable std::mutex mutex_;
  std::vector<int> holders_ ABSL_GUARDED_BY(mutex_);  // a published block counts as held once by the pool
  std::vector<int32_t> free_ ABSL_GUARDED_BY(mutex_);
  int64_t reserved_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t hits_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<Key, int64_t> ids_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, Published> published_ ABSL_GUARDED_BY(mutex_);
  std::list<int64_t> ages_ ABSL_GUARDED_BY(mutex_);  // least recently used first
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_KV_POOL_H_
