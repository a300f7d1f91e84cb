#include "engine/model/cpu_extend.h"

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <vector>

#include "engine/kernels/attention.h"
#include "engine/kernels/elementwise.h"
#include "engine/kernels/linear.h"

namespace nabla {
namespace {

// Work is divided if each thread gets this many multiplications, a few times what handing it over costs.
constexpr int64_t kMultiplicationsPerTask = 150'000;

kernels::NumberType TypeOf(const torch::Tensor& tensor) {
  return tensor.scalar_type() == torch::kFloat32 ? kernels::NumberType::kFloat32 : kernels::NumberType::kBfloat16;
}

kernels::WeightMatrix MatrixOf(const torch::Tensor& weight) {
  return {.data = weight.data_ptr(), .type = TypeOf(weight), .outputs = weight.size(0), .inputs = weight.size(1)};
}

std::vector<float> Widened(const torch::Tensor& tensor) {
  std::vector<float> wide(tensor.defined() ? tensor.numel() : 0);
  if (!wide.empty()) kernels::Widen(TypeOf(tensor), tensor.data_ptr(), tensor.numel(), wide.data());
  return wide;
}

// A product and where it goes, [rows, outputs].
struct Target {
  const Linear& linear;
  float* out;
};

// Products of the same x [rows, inputs], as one loop over all their outputs.
void Products(std::initializer_list<Target> targets, const float* x, int64_t rows, ThreadTeam& team) {
  struct Part {
    kernels::WeightMatrix weight;
    std::vector<float> bias;
    float* out;
  };
  std::vector<Part> parts;
  int64_t outputs = 0;
  for (const Target& target : targets) {
    parts.push_back({MatrixOf(target.linear.weight), Widened(target.linear.bias), target.out});
    outputs += parts.back().weight.outputs;
  }
  const int64_t grain = std::max<int64_t>(1, kMultiplicationsPerTask / (rows * parts.front().weight.inputs));
  team.ParallelFor(outputs, grain, [&](int64_t begin, int64_t end) {
    for (const Part& part : parts) {
      const int64_t last = std::min(end, part.weight.outputs);
      if (begin < last) {
        kernels::Linear(part.weight, x, rows, part.bias.empty() ? nullptr : part.bias.data(), part.out,
                        part.weight.outputs, std::max<int64_t>(begin, 0), last);
      }
      begin -= part.weight.outputs, end -= part.weight.outputs;
    }
  });
}

// One pass over all slices.
class Pass {
 public:
  Pass(const DecoderWeights& weights, absl::Span<const Slice> slices, ThreadTeam& team)
      : weights_(weights), config_(weights.config), team_(team) {
    for (const Slice& slice : slices) {
      for (size_t i = 0; i < slice.ids.size(); ++i) {
        rows_.push_back(
            {.cache = slice.cache, .token = slice.ids[i], .position = slice.cache->length() + static_cast<int64_t>(i)});
      }
    }
  }

  void Run(float* out) {
    const int64_t rows = static_cast<int64_t>(rows_.size()), hidden = config_.hidden_size;
    const int64_t queries = config_.num_heads * config_.head_dim, keys = config_.num_key_value_heads * config_.head_dim;
    const auto numbers = [rows](int64_t columns) { return std::unique_ptr<float[]>(new float[rows * columns]); };
    const auto x = numbers(hidden), input = numbers(hidden), query = numbers(queries), key = numbers(keys),
               value = numbers(keys), mixed = numbers(queries), gate = numbers(config_.intermediate_size),
               up = numbers(config_.intermediate_size);
    Embed(x.get());
    for (size_t i = 0; i < weights_.layers.size(); ++i) {
      const DecoderLayer& layer = weights_.layers[i];
      Norm(layer.input_norm, x.get(), rows, hidden, input.get());
      Products({{layer.query, query.get()}, {layer.key, key.get()}, {layer.value, value.get()}}, input.get(), rows,
               team_);
      if (layer.query_norm.defined()) {
        Norm(layer.query_norm, query.get(), rows * config_.num_heads, config_.head_dim, query.get());
        Norm(layer.key_norm, key.get(), rows * config_.num_key_value_heads, config_.head_dim, key.get());
      }
      Rotate(query.get(), config_.num_heads);
      Rotate(key.get(), config_.num_key_value_heads);
      Attend(static_cast<int64_t>(i), query.get(), key.get(), value.get(), mixed.get());
      Products({{layer.output, input.get()}}, mixed.get(), rows, team_);
      kernels::Add(input.get(), rows * hidden, x.get());
      Norm(layer.post_attention_norm, x.get(), rows, hidden, input.get());
      Products({{layer.gate, gate.get()}, {layer.up, up.get()}}, input.get(), rows, team_);
      kernels::SiluMultiply(up.get(), rows * config_.intermediate_size, gate.get());
      Products({{layer.down, input.get()}}, gate.get(), rows, team_);
      kernels::Add(input.get(), rows * hidden, x.get());
    }
    Norm(weights_.final_norm, x.get(), rows, hidden, out);
  }

 private:
  struct Row {
    KvCache* cache;
    int32_t token;
    int64_t position;
  };

  void Embed(float* x) const {
    const int64_t hidden = config_.hidden_size, bytes = hidden * weights_.embedding.element_size();
    const auto* table = static_cast<const char*>(weights_.embedding.data_ptr());
    for (size_t i = 0; i < rows_.size(); ++i) {
      kernels::Widen(TypeOf(weights_.embedding), table + rows_[i].token * bytes, hidden, x + i * hidden);
    }
  }

  void Norm(const torch::Tensor& weight, const float* x, int64_t rows, int64_t columns, float* out) const {
    const std::vector<float> wide = Widened(weight);
    const float epsilon = static_cast<float>(config_.rms_norm_eps);
    for (int64_t i = 0; i < rows; ++i) {
      kernels::RmsNorm(x + i * columns, wide.data(), columns, epsilon, out + i * columns);
    }
  }

  void Rotate(float* x, int64_t heads) const {
    const int64_t size = config_.head_dim;
    const auto *cosines = weights_.cosines.data_ptr<float>(), *sines = weights_.sines.data_ptr<float>();
    for (const Row& row : rows_) {
      for (int64_t head = 0; head < heads; ++head, x += size) {
        kernels::Rotate(cosines + row.position * size, sines + row.position * size, size, x);
      }
    }
  }

  // Every row's key is stored before the first query looks: rows of one sequence see each other.
  void Attend(int64_t layer, const float* query, const float* key, const float* value, float* out) const {
    const kernels::KvBlocks kv = rows_.front().cache->pool().Layer(layer);
    const int64_t keys = config_.num_key_value_heads * config_.head_dim, heads = config_.num_heads;
    int64_t longest = 0;
    for (size_t i = 0; i < rows_.size(); ++i) {
      const Row& row = rows_[i];
      kernels::StoreKeyValue(kv, row.cache->blocks()[row.position / kBlockTokens], row.position % kBlockTokens,
                             key + i * keys, value + i * keys);
      longest = std::max(longest, row.position + 1);
    }
    const int64_t grain = std::max<int64_t>(1, kMultiplicationsPerTask / (2 * longest * config_.head_dim));
    team_.ParallelFor(static_cast<int64_t>(rows_.size()) * heads, grain, [&](int64_t begin, int64_t end) {
      std::vector<float> scores(longest + kBlockTokens);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t i = task / heads, head = task % heads;
        const Row& row = rows_[i];
        const kernels::AttentionRow attention{.query = query + i * heads * config_.head_dim,
                                              .blocks = row.cache->blocks().data(),
                                              .length = row.position + 1,
                                              .out = out + i * heads * config_.head_dim};
        kernels::Attend(kv, attention, heads, head, head + 1, scores.data());
      }
    });
  }

  const DecoderWeights& weights_;
  const ModelConfig& config_;
  ThreadTeam& team_;
  std::vector<Row> rows_;
};

}  // namespace

torch::Tensor ExtendOnCpu(const DecoderWeights& weights, absl::Span<const Slice> slices, ThreadTeam& team) {
  const torch::InferenceMode inference;
  int64_t rows = 0;
  for (const Slice& slice : slices) rows += static_cast<int64_t>(slice.ids.size());
  const torch::Tensor out = torch::empty({rows, weights.config.hidden_size}, torch::kFloat32);
  Pass(weights, slices, team).Run(out.data_ptr<float>());
  for (const Slice& slice : slices) slice.cache->Advance(static_cast<int64_t>(slice.ids.size()));
  return out.to(weights.dtype);
}

torch::Tensor LinearOnCpu(const Linear& linear, const torch::Tensor& x, ThreadTeam& team) {
  const torch::Tensor input = x.to(torch::kFloat32).contiguous();
  std::vector<int64_t> shape = x.sizes().vec();
  const int64_t rows = x.numel() / shape.back();
  shape.back() = linear.weight.size(0);
  torch::Tensor out = torch::empty(shape, torch::kFloat32);
  if (rows > 0) Products({{linear, out.data_ptr<float>()}}, input.data_ptr<float>(), rows, team);
  return out;
}

}  // namespace nabla
