// Attention of many rows of one sequence at once, and its derivative, for gradients on a CPU. No torch.
//
//   AttentionOfRows attention;                       // a thread's own: memory that calls share
//   attention.Forward(rows, out);
//   attention.Backward(rows, out_gradient, query_gradient, first_key, key_gradient, value_gradient);
//
// One call takes the query heads that share a key/value head. Everything is float32, whatever the type of what is
// given, but for bfloat16 heads on a CPU whose products of them are faster (AVX512_BF16 without tiles): there attention
// weights, their gradients and `out_gradient` are rounded to bfloat16 where they are multiplied; sums and softmax stay
// float32. A few products a block of rows, whose operands stay in a core's caches: half the time that libtorch's
// products of a head take (SmolLM2, 200 rows, float32, AMD Zen 4), which are too small for it. Attention weights are
// computed again rather than kept. Not thread-safe.
#ifndef NABLA_ENGINE_KERNELS_ATTENTION_ROWS_H_
#define NABLA_ENGINE_KERNELS_ATTENTION_ROWS_H_

#include <cstdint>

#include "engine/kernels/linear.h"
#include "hwy/aligned_allocator.h"

namespace nabla::kernels {

// n rows of which the first sees `before` + 1 keys, the next one more, and so on.
struct AttentionRows {
  NumberType type;   // of all three
  const void* keys;  // [before + n, size], as are
  const void* values;
  const void* queries;  // [n, stride], of which the first `shared` · `size` numbers are the heads
  int64_t rows, before;
  int64_t size, shared, stride;
};

class AttentionOfRows {
 public:
  // out [n, stride], laid out as the queries are.
  void Forward(const AttentionRows& rows, float* out);

  // `out_gradient` and, out, `query_gradient` are laid out as the queries are. Out: what these rows want of keys and
  // values [first_key, before + n), a gradient [before + n − first_key, size] each.
  void Backward(const AttentionRows& rows, const float* out_gradient, float* query_gradient, int64_t first_key,
                float* key_gradient, float* value_gradient);

 private:
  class Buffer {
   public:
    float* Resize(int64_t count);  // keeps nothing but the memory
    float* get() const { return numbers_.get(); }

   private:
    hwy::AlignedFreeUniquePtr<float[]> numbers_;
    int64_t count_ = 0;
  };

  class Operands;

  void TakeAll(const AttentionRows& rows, const Operands& operands, bool values_across);
  float* ComputeWeights(const AttentionRows& rows, const Operands& operands, int64_t first, int64_t count);

  Buffer keys_, values_, keys_across_, values_across_, keys_down_, values_down_;  // of the head
  Buffer queries_, out_gradient_, weights_, at_scores_, result_;                  // of a block of rows
  Buffer weights_along_, scores_along_, by_query_down_, factor_down_;             // of it, as operands
  Buffer at_keys_, at_values_;
};

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_ATTENTION_ROWS_H_
