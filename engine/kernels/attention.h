// Causal attention of one query row over keys and values in blocks (engine/model/kv_pool.h). No torch.
//
//   Attend(kv, {.query = q, .blocks = blocks, .length = 33, .out = out}, /*heads=*/9, 0, 9, scores);
//
// Row-independent, as in linear.h: a row's result depends on its query and on the keys and values it sees. Thread-safe.
#ifndef NABLA_ENGINE_KERNELS_ATTENTION_H_
#define NABLA_ENGINE_KERNELS_ATTENTION_H_

#include <cstdint>

#include "engine/kernels/linear.h"

namespace nabla::kernels {

// Positions in a block: a vector of scores holds as many keys, which therefore lie side by side.
inline constexpr int64_t kBlockTokens = 16;

// One layer's keys and values of all blocks.
struct KvBlocks {
  void* keys = nullptr;      // block b, head g: [head_dim, kBlockTokens] at b·block_stride + g·head_dim·kBlockTokens
  void* values = nullptr;    // the same, [kBlockTokens, head_dim]
  int64_t block_stride = 0;  // numbers from one block to the next
  NumberType type = NumberType::kFloat32;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
};

struct AttentionRow {
  const float* query = nullptr;     // [heads, head_dim]
  const int32_t* blocks = nullptr;  // of the row's sequence, in order
  int64_t length = 0;               // keys that it sees, itself included; > 0
  float* out = nullptr;             // [heads, head_dim]
};

// Heads [begin, end) of `heads`; each key/value head serves heads / kv_heads of them. `scores` is scratch of `length`
// rounded up to whole blocks.
void Attend(const KvBlocks& kv, const AttentionRow& row, int64_t heads, int64_t begin, int64_t end, float* scores);

// Puts the key, or the value, [head_dim] of one head at one position into its place in a block.
void StoreKey(const KvBlocks& kv, int32_t block, int64_t offset, int64_t kv_head, const float* key);
void StoreValue(const KvBlocks& kv, int32_t block, int64_t offset, int64_t kv_head, const float* value);

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_ATTENTION_H_
