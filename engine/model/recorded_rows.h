// What passes over the tokens of one sequence leave to the derivative of another pass over them, kept while they are
// decoded, so that a gradient at a rollout does not run the rollout's tokens again. CPU only. Includes torch.
//
//   RecordedRows record(weights, /*first_position=*/prompt_tokens, /*capacity=*/max_new_tokens, budget);
//   body.Extend({{&cache, ids, &record}});                       // records the rows behind the prompt
//   if (record.Holds(response)) tape = record.TapeOf(first, count, cache, team);
//
// Rows count from the first position. A row takes about twelve times what its keys and values do (SmolLM2: 0.6 MB in
// float32). A sequence that would go over the budget gives back all it has, for a derivative wants every row, and is
// not recorded any more; whoever wants the rows computes them again, to the same bits. Belongs to one request; not
// thread-safe, but for the columns of one row, which threads may write side by side.
#ifndef NABLA_ENGINE_MODEL_RECORDED_ROWS_H_
#define NABLA_ENGINE_MODEL_RECORDED_ROWS_H_

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/cpu_gradient.h"
#include "engine/model/decoder_weights.h"
#include "engine/model/kv_cache.h"
#include "engine/model/memory_budget.h"

namespace nabla {

class RecordedRows {
 public:
  // Room for `capacity` rows, or as many as the budget has left; memory is touched as it is used. `budget` may be null:
  // there is none.
  RecordedRows(const DecoderWeights& weights, int64_t first_position, int64_t capacity,
               std::shared_ptr<MemoryBudget> budget);
  ~RecordedRows();
  RecordedRows(const RecordedRows&) = delete;
  RecordedRows& operator=(const RecordedRows&) = delete;

  // The first row of tokens that are about to be run in one pass, from a position on, whose columns are then to be put;
  // -1: they are not recorded. What was recorded of this and later positions is forgotten.
  int64_t Begin(int64_t position, absl::Span<const int32_t> ids);

  // Puts `count` float32 numbers, from a column of the row on, in the type of the matrix.
  static void Put(const torch::Tensor& matrix, int64_t row, int64_t column, const float* numbers, int64_t count);

  // Whether the first ids.size() rows are there and those of `ids`.
  bool Holds(absl::Span<const int32_t> ids) const;

  // Rows [first, first + count) as the pass of CpuGradient that they stand for; keys and values come from `cache`.
  CpuGradient::Tape TapeOf(int64_t first, int64_t count, const KvCache& cache, ThreadTeam& team) const;

  CpuGradient::Tape::Layer& layer(int64_t index) { return tape_.layers[index]; }
  const torch::Tensor& last() const { return tape_.last; }
  int64_t first_position() const { return tape_.prefix; }

 private:
  void GiveUp();

  CpuGradient::Tape tape_;  // of all rows; keys and values are the cache's
  const std::shared_ptr<MemoryBudget> budget_;
  int64_t row_bytes_ = 0;
  int64_t capacity_ = 0;
  int64_t paid_rows_ = 0;
  std::vector<int32_t> ids_;  // of the rows that are there
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_RECORDED_ROWS_H_
