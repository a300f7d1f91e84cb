#include "engine/model/cpu_decoder.h"

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

#include "engine/base/thread_priority.h"
#include "engine/kernels/attention.h"
#include "engine/kernels/elementwise.h"
#include "engine/kernels/linear_pairs.h"
#include "engine/model/cpu_tensors.h"
#include "engine/model/recorded_rows.h"

namespace nabla {
namespace {

// Work is divided if each thread gets this many multiplications, a few times what handing it over costs.
constexpr int64_t kMultiplicationsPerTask = 150'000;
// A thread gives way between pieces of its part of a product: some 0.2 ms, of 16 rows or fewer, which wait for memory.
constexpr int64_t kMultiplicationsPerPiece = 20'000'000, kRowsPerPiece = 16;
// Outputs of a product are divided by as many, which the kernels take at once, here and as the next product's input.
constexpr int64_t kOutputsTogether = kernels::LinearInput::kTogether;
static_assert(kOutputsTogether % kernels::kOutputsPacked == 0);

// Calls body(begin, end) for parts of a product's outputs, or of several products' that have the same x and as many.
template <typename Body>
void ForOutputs(ThreadTeam& team, const kernels::WeightMatrix& weight, int64_t rows, const Body& body) {
  const int64_t weights = weight.inputs * kOutputsTogether;
  const int64_t grain = std::max<int64_t>(1, kMultiplicationsPerTask / (rows * weights));
  const int64_t piece = std::max<int64_t>(1, kMultiplicationsPerPiece / (std::max(rows, kRowsPerPiece) * weights));
  team.ParallelFor((weight.outputs + kOutputsTogether - 1) / kOutputsTogether, grain, [&](int64_t begin, int64_t end) {
    for (; begin < end; begin += piece) {
      body(begin * kOutputsTogether, std::min(std::min(begin + piece, end) * kOutputsTogether, weight.outputs));
      GiveWay();
    }
  });
}

}  // namespace

CpuDecoder::Product CpuDecoder::ProductOf(const Linear& linear, const Quantizer& quantize) {
  if (quantize == nullptr) return {.weight = PackedIfSmall(linear.weight), .bias = Widened(linear.bias)};
  quantized_.push_back(quantize(linear.weight));
  return {.weight = quantized_.back().weight(), .bias = Widened(linear.bias)};
}

kernels::WeightMatrix CpuDecoder::PackedIfSmall(const torch::Tensor& weight) {
  kernels::WeightMatrix matrix = MatrixOf(weight);
  const bool small = weights_.config.parameters() * weight.element_size() <= kMostCachedBytes;
  const bool parts_fit = weights_.config.head_dim % kernels::kOutputsPacked == 0;  // heads are
  if (!small || !parts_fit || !kernels::CanPackPairs(matrix)) return matrix;
  packed_.push_back(packed_memory_.Empty(weight.sizes(), weight.scalar_type()));
  kernels::PackPairs(matrix, static_cast<uint16_t*>(packed_.back().data_ptr()));
  matrix.data = packed_.back().data_ptr();
  matrix.packed = true;
  return matrix;
}

CpuDecoder::CpuDecoder(const DecoderWeights& weights) : CpuDecoder(weights, nullptr) {}

CpuDecoder CpuDecoder::Quantized(const DecoderWeights& weights, WeightMemory& memory, ThreadTeam& team) {
  return CpuDecoder(weights, [&](const torch::Tensor& weight) { return QuantizedMatrix(weight, memory, team); });
}

CpuDecoder::CpuDecoder(const DecoderWeights& weights, const Quantizer& quantize)
    : weights_(weights), final_norm_(Widened(weights.final_norm)) {
  for (const DecoderLayer& layer : weights_.layers) {
    layers_.push_back({.input_norm = Widened(layer.input_norm),
                       .post_attention_norm = Widened(layer.post_attention_norm),
                       .query = ProductOf(layer.query, quantize),
                       .key = ProductOf(layer.key, quantize),
                       .value = ProductOf(layer.value, quantize),
                       .output = ProductOf(layer.output, quantize),
                       .gate = ProductOf(layer.gate, quantize),
                       .up = ProductOf(layer.up, quantize),
                       .down = ProductOf(layer.down, quantize),
                       .query_norm = Widened(layer.query_norm),
                       .key_norm = Widened(layer.key_norm)});
  }
}

// One pass over all slices. n rows, one a token. One at a time on a thread, which keeps what passes work in.
class CpuDecoder::Pass {
 public:
  Pass(const CpuDecoder& decoder, absl::Span<const Slice> slices, ThreadTeam& team)
      : decoder_(decoder), config_(decoder.weights_.config), team_(team) {
    rows_.clear();
    for (const Slice& slice : slices) {
      AddRows(*slice.cache, slice.cache->length(), slice.ids, slice.record, slice.hidden_rows());
    }
    Allocate();
  }

  // Of tokens that the cache holds.
  Pass(const CpuDecoder& decoder, const KvCache& cache, int64_t position, absl::Span<const int32_t> ids,
       RecordedRows& record, ThreadTeam& team)
      : decoder_(decoder), config_(decoder.weights_.config), team_(team), stores_(false) {
    rows_.clear();
    AddRows(cache, position, ids, &record, static_cast<int64_t>(ids.size()));
    Allocate();
  }

  void Run(torch::Tensor& out) {
    RunLayers();
    Norm(decoder_.final_norm_, change_);
    kernels::Narrow(TypeOf(out), change_, out.numel(), out.data_ptr());
  }

  void RunLayers() {
    Embed();
    for (size_t i = 0; i < decoder_.layers_.size(); ++i) {
      const Layer& layer = decoder_.layers_[i];
      layer_ = static_cast<int64_t>(i);
      const kernels::KvBlocks kv = rows_.front().cache->pool().Layer(layer_);
      RecordAll(&CpuGradient::Tape::Layer::input, x_, config_.hidden_size);
      Norm(layer.input_norm, change_);
      ProjectHeads(layer, kv);
      if (i + 1 == decoder_.layers_.size()) KeepWanted();
      if (rows_.empty()) return;
      RecordAll(&CpuGradient::Tape::Layer::query, query_, queries());
      Attend(kv);
      AddProduct(layer.output, InputOf(mixed_, layer.output));
      RecordAll(&CpuGradient::Tape::Layer::middle, x_, config_.hidden_size);
      Norm(layer.post_attention_norm, change_);
      AddProduct(layer.down, Gate(layer));
    }
    for (int64_t i = 0; i < rows(); ++i) {
      if (rows_[i].record == nullptr) continue;
      RecordedRows::Put(rows_[i].record->last(), rows_[i].recorded_row, 0, x_ + i * config_.hidden_size,
                        config_.hidden_size);
    }
  }

 private:
  struct Row {
    const KvCache* cache;
    int32_t token;
    int64_t position;
    bool wanted;
    RecordedRows* record = nullptr;
    int64_t recorded_row = 0;

    int32_t block() const { return cache->blocks()[position / kBlockTokens]; }
    int64_t offset() const { return position % kBlockTokens; }
  };

  struct Memory {
    hwy::AlignedFreeUniquePtr<float[]> numbers;
    int64_t size = 0;
    std::vector<Row> rows;
    kernels::LinearInput input, gated;

    static Memory& OfThisThread() {
      thread_local Memory memory;
      return memory;
    }
  };

  void AddRows(const KvCache& cache, int64_t position, absl::Span<const int32_t> ids, RecordedRows* record,
               int64_t wanted) {
    int64_t recorded_row = record != nullptr ? record->Begin(position, ids) : -1;
    if (recorded_row < 0) record = nullptr;
    if (record != nullptr) records_ = true;
    int64_t left = static_cast<int64_t>(ids.size());
    for (const int32_t id : ids) {
      rows_.push_back({.cache = &cache,
                       .token = id,
                       .position = position++,
                       .wanted = left-- <= wanted,
                       .record = record,
                       .recorded_row = recorded_row++});
    }
  }

  // Goes on with the rows whose hidden states are wanted, once all keys and values are stored.
  void KeepWanted() {
    int64_t kept = 0;
    const auto move = [&](float* matrix, int64_t columns, int64_t from) {
      std::copy_n(matrix + from * columns, columns, matrix + kept * columns);
    };
    for (int64_t i = 0; i < rows(); ++i) {
      if (!rows_[i].wanted) continue;
      if (i > kept) {
        rows_[kept] = rows_[i];
        move(x_, config_.hidden_size, i);
        move(query_, queries(), i);
      }
      ++kept;
    }
    rows_.resize(kept);
  }

  // Every matrix begins where a cache line does: rows that straddle lines cost the products a quarter of their speed.
  void Allocate() {
    constexpr int64_t kLine = 16;  // numbers
    const std::pair<float**, int64_t> matrices[] = {{&x_, config_.hidden_size},
                                                    {&change_, config_.hidden_size},
                                                    {&query_, queries()},
                                                    {&mixed_, queries()},
                                                    {&key_, keys()},
                                                    {&value_, keys()},
                                                    {&gate_, config_.intermediate_size},
                                                    {&up_, config_.intermediate_size}};
    const auto numbers = [this](int64_t columns) { return (rows() * columns + kLine - 1) / kLine * kLine; };
    int64_t all = 0;
    for (const auto& [matrix, columns] : matrices) all += numbers(columns);
    if (all > memory_.size) {
      memory_.size = 0;
      memory_.numbers = hwy::AllocateAligned<float>(all);
      if (memory_.numbers == nullptr) throw std::bad_alloc();
      memory_.size = all;
    }
    float* next = memory_.numbers.get();
    for (const auto& [matrix, columns] : matrices) *matrix = std::exchange(next, next + numbers(columns));
  }

  // Puts columns [begin, begin + count) of a matrix of this layer into the records of the rows that have one; numbers
  // [n, columns].
  void RecordColumns(torch::Tensor CpuGradient::Tape::Layer::*matrix, const float* numbers, int64_t columns,
                     int64_t begin, int64_t count) const {
    if (!records_) return;
    for (int64_t i = 0; i < rows(); ++i) {
      const Row& row = rows_[i];
      if (row.record == nullptr) continue;
      RecordedRows::Put(row.record->layer(layer_).*matrix, row.recorded_row, begin, numbers + i * columns + begin,
                        count);
    }
  }
  void RecordAll(torch::Tensor CpuGradient::Tape::Layer::*matrix, const float* numbers, int64_t columns) const {
    RecordColumns(matrix, numbers, columns, 0, columns);
  }

  int64_t rows() const { return static_cast<int64_t>(rows_.size()); }
  int64_t queries() const { return config_.num_heads * config_.head_dim; }
  int64_t keys() const { return config_.num_key_value_heads * config_.head_dim; }

  void Embed() {
    const torch::Tensor& embedding = decoder_.weights_.embedding;
    const int64_t hidden = config_.hidden_size, bytes = hidden * embedding.element_size();
    const auto* table = static_cast<const char*>(embedding.data_ptr());
    for (int64_t i = 0; i < rows(); ++i) {
      kernels::Widen(TypeOf(embedding), table + rows_[i].token * bytes, hidden, x_ + i * hidden);
    }
  }

  // The norm of x, [n, H].
  void Norm(const std::vector<float>& weight, float* out) const {
    const int64_t hidden = config_.hidden_size;
    for (int64_t i = 0; i < rows(); ++i) NormRow(weight, x_ + i * hidden, out + i * hidden);
  }

  void NormRow(const std::vector<float>& weight, const float* x, float* out) const {
    kernels::RmsNorm(x, weight.data(), static_cast<int64_t>(weight.size()), static_cast<float>(config_.rms_norm_eps),
                     out);
  }

  // Until the next one is asked for.
  const kernels::LinearInput& InputOf(const float* x, const Product& product) {
    memory_.input.Assign(x, rows(), product.weight.inputs, product.weight.type);
    return memory_.input;
  }

  static void Multiply(const Product& product, const kernels::LinearInput& input, int64_t begin, int64_t end,
                       float* out) {
    kernels::Linear(product.weight, input, product.bias.empty() ? nullptr : product.bias.data(), out,
                    product.weight.outputs, begin, end);
  }

  // Queries, keys and values from change_; keys and values go to the cache. By heads: what is done with one needs no
  // other.
  void ProjectHeads(const Layer& layer, const kernels::KvBlocks& kv) {
    const int64_t size = config_.head_dim, heads = config_.num_heads, kv_heads = config_.num_key_value_heads;
    const kernels::LinearInput& input = InputOf(change_, layer.query);
    const int64_t grain = std::max<int64_t>(1, kMultiplicationsPerTask / (rows() * config_.hidden_size * size));
    team_.ParallelFor(heads + 2 * kv_heads, grain, [&](int64_t begin, int64_t end) {
      const auto part = [&](const Product& product, float* out, const std::vector<float>* norm,
                            torch::Tensor CpuGradient::Tape::Layer::*raw, auto&& finish) {
        const int64_t count = product.weight.outputs / size, last = std::min(end, count);
        const int64_t first = std::max<int64_t>(begin, 0);
        begin -= count, end -= count;
        if (first >= last) return;
        Multiply(product, input, first * size, last * size, out);
        if (norm != nullptr && !norm->empty()) {
          RecordColumns(raw, out, product.weight.outputs, first * size, (last - first) * size);
        }
        for (int64_t i = 0; i < rows(); ++i) {
          for (int64_t head = first; head < last; ++head) {
            float* const x = out + i * product.weight.outputs + head * size;
            if (norm != nullptr && !norm->empty()) NormRow(*norm, x, x);
            finish(rows_[i], head, x);
          }
        }
      };
      using Recorded = CpuGradient::Tape::Layer;
      part(layer.query, query_, &layer.query_norm, &Recorded::raw_query,
           [&](const Row& row, int64_t, float* x) { Rotate(row, x); });
      part(layer.key, key_, &layer.key_norm, &Recorded::raw_key, [&](const Row& row, int64_t head, float* x) {
        Rotate(row, x);
        if (stores_) kernels::StoreKey(kv, row.block(), row.offset(), head, x);
      });
      part(layer.value, value_, nullptr, nullptr, [&](const Row& row, int64_t head, float* x) {
        if (stores_) kernels::StoreValue(kv, row.block(), row.offset(), head, x);
      });
    });
  }

  void Rotate(const Row& row, float* x) const {
    const int64_t size = config_.head_dim;
    const auto &cosines = decoder_.weights_.cosines, &sines = decoder_.weights_.sines;
    kernels::Rotate(cosines.data_ptr<float>() + row.position * size, sines.data_ptr<float>() + row.position * size,
                    size, x);
  }

  // Rows of one sequence see each other: their keys and values are in the cache by now.
  void Attend(const kernels::KvBlocks& kv) {
    const int64_t heads = config_.num_heads;
    int64_t longest = 1;
    for (const Row& row : rows_) longest = std::max(longest, row.position + 1);
    const int64_t grain = std::max<int64_t>(1, kMultiplicationsPerTask / (2 * longest * config_.head_dim));
    team_.ParallelFor(rows() * heads, grain, [&](int64_t begin, int64_t end) {
      thread_local std::vector<float> scores;
      scores.resize(longest + kBlockTokens);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t i = task / heads, head = task % heads;
        const Row& row = rows_[i];
        const kernels::AttentionRow attention{.query = query_ + i * queries(),
                                              .blocks = row.cache->blocks().data(),
                                              .length = row.position + 1,
                                              .out = mixed_ + i * queries()};
        kernels::Attend(kv, attention, heads, head, head + 1, scores.data());
      }
    });
  }

  // silu(gate(change_)) · up(change_), in gate_.
  const kernels::LinearInput& Gate(const Layer& layer) {
    const kernels::WeightMatrix& next = layer.down.weight;
    kernels::LinearInput& gated = memory_.gated;
    gated.AssignInPieces(gate_, rows(), next.inputs, next.type);
    const kernels::LinearInput& input = InputOf(change_, layer.gate);
    const int64_t inner = config_.intermediate_size;
    ForOutputs(team_, layer.gate.weight, 2 * rows(), [&](int64_t begin, int64_t end) {
      Multiply(layer.gate, input, begin, end, gate_);
      Multiply(layer.up, input, begin, end, up_);
      RecordColumns(&CpuGradient::Tape::Layer::gate, gate_, inner, begin, end - begin);
      RecordColumns(&CpuGradient::Tape::Layer::up, up_, inner, begin, end - begin);
      for (int64_t i = 0; i < rows(); ++i) {
        kernels::SiluMultiply(up_ + i * inner + begin, end - begin, gate_ + i * inner + begin);
      }
      gated.Take(begin, end);
    });
    return gated;
  }

  // x += product(input).
  void AddProduct(const Product& product, const kernels::LinearInput& input) {
    const int64_t hidden = config_.hidden_size;
    ForOutputs(team_, product.weight, rows(), [&](int64_t begin, int64_t end) {
      Multiply(product, input, begin, end, change_);
      for (int64_t i = 0; i < rows(); ++i) {
        kernels::Add(change_ + i * hidden + begin, end - begin, x_ + i * hidden + begin);
      }
    });
  }

  const CpuDecoder& decoder_;
  const ModelConfig& config_;
  ThreadTeam& team_;
  const bool stores_ = true;  // keys and values
  bool records_ = false;      // any row
  int64_t layer_ = 0;
  Memory& memory_ = Memory::OfThisThread();
  std::vector<Row>& rows_ = memory_.rows;
  float *x_ = nullptr, *change_ = nullptr;     // [n, H]
  float *query_ = nullptr, *mixed_ = nullptr;  // [n, heads · head dimension]
  float *key_ = nullptr, *value_ = nullptr;    // [n, key/value heads · head dimension]
  float *gate_ = nullptr, *up_ = nullptr;      // [n, intermediate size]
};

torch::Tensor CpuDecoder::Extend(absl::Span<const Slice> slices, ThreadTeam& team) const {
  const torch::InferenceMode inference;
  int64_t rows = 0;
  for (const Slice& slice : slices) rows += slice.hidden_rows();
  torch::Tensor out = torch::empty({rows, weights_.config.hidden_size}, weights_.dtype);
  Pass(*this, slices, team).Run(out);
  for (const Slice& slice : slices) slice.cache->Advance(static_cast<int64_t>(slice.ids.size()));
  return out;
}

void CpuDecoder::Record(const KvCache& cache, int64_t position, absl::Span<const int32_t> ids, RecordedRows& record,
                        ThreadTeam& team) const {
  const torch::InferenceMode inference;
  Pass(*this, cache, position, ids, record, team).RunLayers();
}

torch::Tensor LinearOnCpu(const Linear& linear, const torch::Tensor& x, ThreadTeam& team) {
  return MultiplyOnCpu(MatrixOf(linear.weight), Widened(linear.bias), x, team);
}

torch::Tensor MultiplyOnCpu(const kernels::WeightMatrix& weight, const std::vector<float>& bias, const torch::Tensor& x,
                            ThreadTeam& team) {
  const torch::Tensor numbers = x.to(torch::kFloat32).contiguous();
  std::vector<int64_t> shape = x.sizes().vec();
  const int64_t rows = x.numel() / shape.back();
  shape.back() = weight.outputs;
  torch::Tensor out = torch::empty(shape, torch::kFloat32);
  if (rows == 0) return out;
  thread_local kernels::LinearInput kept;  // from one product to the next
  kernels::LinearInput& input = kept;      // the same for all threads of the loop
  input.Assign(numbers.data_ptr<float>(), rows, weight.inputs, weight.type);
  ForOutputs(team, weight, rows, [&](int64_t begin, int64_t end) {
    kernels::Linear(weight, input, bias.empty() ? nullptr : bias.data(), out.data_ptr<float>(), weight.outputs, begin,
                    end);
  });
  return out;
}

}  // namespace nabla
