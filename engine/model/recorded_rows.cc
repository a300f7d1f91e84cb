#include "engine/model/recorded_rows.h"

#include <algorithm>
#include <utility>

#include "engine/kernels/elementwise.h"
#include "engine/model/cpu_tensors.h"
#include "engine/model/row_parts.h"

namespace nabla {
namespace {

constexpr int64_t kRowsPaidTogether = 32;

// Matrices of a layer that hold a row for every row of a pass.
std::vector<torch::Tensor*> MatricesOf(CpuGradient::Tape::Layer& layer) {
  std::vector<torch::Tensor*> matrices = {&layer.input, &layer.middle, &layer.query, &layer.gate, &layer.up};
  if (layer.raw_query.defined()) matrices.insert(matrices.end(), {&layer.raw_query, &layer.raw_key});
  return matrices;
}

}  // namespace

RecordedRows::RecordedRows(const DecoderWeights& weights, int64_t first_position, int64_t capacity,
                           std::shared_ptr<MemoryBudget> budget)
    : tape_(CpuGradient::NewTape(weights, first_position, /*rows=*/0)), budget_(std::move(budget)) {
  const auto count = [this](const torch::Tensor& matrix) { row_bytes_ += matrix.size(1) * matrix.element_size(); };
  for (CpuGradient::Tape::Layer& layer : tape_.layers) {
    for (const torch::Tensor* matrix : MatricesOf(layer)) count(*matrix);
  }
  count(tape_.last);
  capacity_ = budget_ != nullptr ? std::min(capacity, budget_->left() / row_bytes_) : capacity;
  tape_ = CpuGradient::NewTape(weights, first_position, capacity_);
}

RecordedRows::~RecordedRows() { GiveUp(); }

void RecordedRows::GiveUp() {
  if (budget_ != nullptr) budget_->Give(paid_rows_ * row_bytes_);
  paid_rows_ = capacity_ = 0;
  ids_.clear();
  tape_.layers.clear();
  tape_.last.reset();
}

int64_t RecordedRows::Begin(int64_t position, absl::Span<const int32_t> ids) {
  const int64_t row = position - tape_.prefix, held = static_cast<int64_t>(ids_.size());
  if (row < 0) return -1;
  if (row < held) ids_.resize(row);
  if (row > held) return -1;
  const int64_t end = row + static_cast<int64_t>(ids.size());
  while (paid_rows_ < end) {
    const int64_t rows = std::min(kRowsPaidTogether, capacity_ - paid_rows_);
    if (rows == 0 || (budget_ != nullptr && !budget_->TryTake(rows * row_bytes_))) {
      GiveUp();
      return -1;
    }
    paid_rows_ += rows;
  }
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  return row;
}

void RecordedRows::Put(const torch::Tensor& matrix, int64_t row, int64_t column, const float* numbers, int64_t count) {
  const int64_t at = row * matrix.size(1) + column;
  kernels::Narrow(TypeOf(matrix), numbers, count, static_cast<char*>(matrix.data_ptr()) + at * matrix.element_size());
}

bool RecordedRows::Holds(absl::Span<const int32_t> ids) const {
  return ids.size() <= ids_.size() && std::equal(ids.begin(), ids.end(), ids_.begin());
}

CpuGradient::Tape RecordedRows::TapeOf(int64_t first, int64_t count, const KvCache& cache, ThreadTeam& team) const {
  CpuGradient::Tape tape = tape_;
  tape.prefix += first;
  tape.last = tape_.last.narrow(0, first, count);
  const auto layers = static_cast<int64_t>(tape.layers.size());
  ForRowParts(team, layers, std::min<int64_t>(team.size(), layers), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      CpuGradient::Tape::Layer& layer = tape.layers[i];
      for (torch::Tensor* matrix : MatricesOf(layer)) *matrix = matrix->narrow(0, first, count);
      const auto [keys, values] = cache.Gather(i, tape.prefix + count);
      layer.keys = keys.contiguous();
      layer.values = values.contiguous();
    }
  });
  return tape;
}

}  // namespace nabla
