#include "engine/model/cpu_gradient.h"

#include <algorithm>
#include <utility>

#include "engine/base/thread_priority.h"
#include "engine/kernels/attention_rows.h"
#include "engine/kernels/backward.h"
#include "engine/kernels/elementwise.h"
#include "engine/model/cpu_tensors.h"
#include "engine/model/row_parts.h"

namespace nabla {
namespace {

torch::Tensor Wide(int64_t rows, int64_t columns) { return torch::empty({rows, columns}, torch::kFloat32); }

// [n, columns], contiguous.
torch::Tensor InFloat32(const torch::Tensor& x) {
  if (x.scalar_type() == torch::kFloat32) return x;
  const torch::Tensor wide = Wide(x.size(0), x.size(1));
  kernels::Widen(TypeOf(x), x.data_ptr(), x.numel(), wide.data_ptr<float>());
  return wide;
}

// to [n, columns] = from [n, columns], float32 numbers, in the type of `to`. Both contiguous.
void Copy(const torch::Tensor& from, const torch::Tensor& to) {
  kernels::Narrow(TypeOf(to), from.data_ptr<float>(), from.numel(), to.data_ptr());
}

}  // namespace

CpuGradient::CpuGradient(const DecoderWeights& weights) : weights_(weights), final_norm_(Widened(weights.final_norm)) {
  const auto projection = [&](std::vector<Linear> linears) {
    return CpuProjection(std::move(linears), CopiesForGradients(weights_.copies_for_gradients));
  };
  for (const DecoderLayer& layer : weights_.layers) {
    layers_.push_back({.query_key_value = projection({layer.query, layer.key, layer.value}),
                       .output = projection({layer.output}),
                       .gate_up = projection({layer.gate, layer.up}),
                       .down = projection({layer.down}),
                       .input_norm = Widened(layer.input_norm),
                       .post_attention_norm = Widened(layer.post_attention_norm),
                       .query_norm = Widened(layer.query_norm),
                       .key_norm = Widened(layer.key_norm)});
  }
}

std::vector<const CpuProjection*> CpuGradient::projections() const {
  std::vector<const CpuProjection*> all;
  for (const Layer& layer : layers_) {
    all.insert(all.end(), {&layer.query_key_value, &layer.output, &layer.gate_up, &layer.down});
  }
  return all;
}

// How many keys' attention takes a row as long as its products with a layer's weights do, if it multiplies `products`
// times by a key or value. Attention multiplies about half as fast (SmolLM2, 200 rows, on AMD Zen 5).
double CpuGradient::KeysLikeWeights(int64_t products) const {
  constexpr double kSlowness = 2;
  const DecoderLayer& layer = weights_.layers.front();
  int64_t numbers = 0;
  for (const Linear* linear :
       {&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down}) {
    numbers += linear->weight.numel();
  }
  return static_cast<double>(numbers) / (kSlowness * static_cast<double>(products * layer.query.weight.size(0)));
}

// Rows [begin, end) of a pass. What several parts share is in the tape, whose tensors are written, or given.
class CpuGradient::Rows {
 public:
  Rows(const CpuGradient& pass, const Tape& tape, int64_t begin, int64_t end)
      : pass_(pass), config_(pass.weights_.config), tape_(tape), begin_(begin), count_(end - begin) {}

  torch::Tensor Mine(const torch::Tensor& rows) const { return rows.narrow(0, begin_, count_); }

 protected:
  // These rows' queries of the heads that share a key/value head.
  kernels::AttentionRows HeadsOf(const Tape::Layer& tape, int64_t group) const {
    const int64_t size = config_.head_dim, shared = config_.num_heads / config_.num_key_value_heads;
    const auto at = [](const torch::Tensor& numbers, int64_t i) {
      return static_cast<const char*>(numbers.data_ptr()) + i * numbers.element_size();
    };
    const int64_t keys = group * tape.keys.size(1) * size, stride = tape.query.size(1);
    return {.type = TypeOf(tape.query),
            .keys = at(tape.keys, keys),
            .values = at(tape.values, keys),
            .queries = at(tape.query, begin_ * stride + group * shared * size),
            .rows = count_,
            .before = tape_.prefix + begin_,
            .size = size,
            .shared = shared,
            .stride = stride};
  }
  // Calls body(group, begin): where the heads that share a key/value head begin in a row of all heads.
  template <typename Body>
  void ForGroups(const Body& body) const {
    const int64_t groups = config_.num_key_value_heads, columns = config_.num_heads / groups * config_.head_dim;
    for (int64_t group = 0; group < groups; ++group) {
      body(group, group * columns);
      GiveWay();
    }
  }

  const CpuGradient& pass_;
  const ModelConfig& config_;
  const Tape& tape_;
  const int64_t begin_, count_;
};

class CpuGradient::ForwardRows : public Rows {
 public:
  using Rows::Rows;

  // Queries, keys and values of a layer from the residual stream.
  void ProjectHeads(size_t index) const {
    const Layer& layer = pass_.layers_[index];
    const Tape::Layer& tape = tape_.layers[index];
    const torch::Tensor heads =
        layer.query_key_value.Forward(ProjectionInput(Norm(Mine(tape.input), layer.input_norm), pass_.weights_.dtype));
    GiveWay();
    const int64_t size = config_.head_dim, queries = tape.query.size(1), keys = tape.keys.size(0) * size;
    const std::vector<torch::Tensor> all_keys = tape.keys.unbind(), all_values = tape.values.unbind();
    std::vector<float> scratch;
    for (int64_t i = 0; i < count_; ++i) {
      float *const query = ReadRow(heads, i, scratch), *key = query + queries, *value = key + keys;
      if (!layer.query_norm.empty()) {
        WriteRow(tape.raw_query, begin_ + i, query);
        WriteRow(tape.raw_key, begin_ + i, key);
      }
      FinishHeads(i, layer.query_norm, queries, query);
      FinishHeads(i, layer.key_norm, keys, key);
      WriteRow(tape.query, begin_ + i, query);
      for (size_t group = 0; group < all_keys.size(); ++group, key += size, value += size) {
        WriteRow(all_keys[group], tape_.prefix + begin_ + i, key);
        WriteRow(all_values[group], tape_.prefix + begin_ + i, value);
      }
    }
  }

  // The rest of a layer; its output to `next`.
  void AttendAndFinish(size_t index, const torch::Tensor& next, kernels::AttentionOfRows& attention) const {
    const Layer& layer = pass_.layers_[index];
    const Tape::Layer& tape = tape_.layers[index];
    const torch::ScalarType type = pass_.weights_.dtype;
    const torch::Tensor middle = Mine(tape.middle), out = Mine(next);
    SetSum(Mine(tape.input), layer.output.Forward(ProjectionInput(Attend(tape, attention), type)), middle);
    const torch::Tensor gate_up = layer.gate_up.Forward(ProjectionInput(Norm(middle, layer.post_attention_norm), type));
    const int64_t inner = tape.gate.size(1);
    const torch::Tensor gated = torch::empty({count_, inner}, ProjectionInput::TypeFor(type, inner));
    std::vector<float> scratch;
    for (int64_t i = 0; i < count_; ++i) {
      float *const gate = ReadRow(gate_up, i, scratch), *const up = gate + inner;
      WriteRow(tape.gate, begin_ + i, gate);
      WriteRow(tape.up, begin_ + i, up);
      kernels::SiluMultiply(up, inner, gate);
      WriteRow(gated, i, gate);
    }
    SetSum(middle, layer.down.Forward(ProjectionInput(gated, type)), out);
  }

  // [count, H] float32.
  torch::Tensor Norm(const torch::Tensor& x, const std::vector<float>& weight) const {
    const torch::Tensor out = torch::empty_like(x);
    const int64_t hidden = x.size(1);
    for (int64_t i = 0; i < x.size(0); ++i) {
      kernels::RmsNorm(x.data_ptr<float>() + i * hidden, weight.data(), hidden,
                       static_cast<float>(config_.rms_norm_eps), out.data_ptr<float>() + i * hidden);
    }
    return out;
  }

 private:
  // Norms and rotates every head in the first `columns` numbers of row `i`.
  void FinishHeads(int64_t i, const std::vector<float>& norm, int64_t columns, float* row) const {
    const int64_t size = config_.head_dim, at = (tape_.prefix + begin_ + i) * size;
    for (float* head = row; head < row + columns; head += size) {
      if (!norm.empty()) {
        kernels::RmsNorm(head, norm.data(), size, static_cast<float>(config_.rms_norm_eps), head);
      }
      kernels::Rotate(pass_.weights_.cosines.data_ptr<float>() + at, pass_.weights_.sines.data_ptr<float>() + at, size,
                      head);
    }
  }

  // out = x + change; x and out float32.
  static void SetSum(const torch::Tensor& x, const torch::Tensor& change, const torch::Tensor& out) {
    std::vector<float> scratch, none;
    for (int64_t i = 0; i < x.size(0); ++i) {
      WriteRow(out, i, ReadRow(x, i, none));
      kernels::Add(ReadRow(change, i, scratch), x.size(1), ReadRow(out, i, none));
    }
  }

  // float32 [count, heads · head dimension].
  torch::Tensor Attend(const Tape::Layer& tape, kernels::AttentionOfRows& attention) const {
    const torch::Tensor mixed = Wide(count_, tape.query.size(1));
    ForGroups([&](int64_t group, int64_t begin) {
      attention.Forward(HeadsOf(tape, group), mixed.data_ptr<float>() + begin);
    });
    return mixed;
  }
};

CpuGradient::Tape::Layer CpuGradient::NewLayer(const DecoderWeights& weights, int64_t rows) {
  const ModelConfig& config = weights.config;
  const auto narrow = [&](int64_t columns) { return torch::empty({rows, columns}, weights.dtype); };
  Tape::Layer layer;
  layer.input = Wide(rows, config.hidden_size);
  layer.middle = Wide(rows, config.hidden_size);
  layer.query = narrow(config.num_heads * config.head_dim);
  layer.gate = narrow(config.intermediate_size);
  layer.up = narrow(config.intermediate_size);
  if (weights.layers.front().query_norm.defined()) {
    layer.raw_query = narrow(config.num_heads * config.head_dim);
    layer.raw_key = narrow(config.num_key_value_heads * config.head_dim);
  }
  return layer;
}

CpuGradient::Tape CpuGradient::NewTape(const DecoderWeights& weights, int64_t prefix, int64_t rows) {
  Tape tape{.prefix = prefix, .layers = {}, .last = Wide(rows, weights.config.hidden_size)};
  while (tape.layers.size() < weights.layers.size()) {
    tape.layers.push_back(NewLayer(weights, rows));
    GiveWay();
  }
  return tape;
}

CpuGradient::Tape CpuGradient::NewTapeOfOneLayer(const DecoderWeights& weights, int64_t prefix, int64_t rows) {
  return {.prefix = prefix,
          .layers = std::vector<Tape::Layer>(weights.layers.size(), NewLayer(weights, rows)),
          .last = Wide(rows, weights.config.hidden_size)};
}

torch::Tensor CpuGradient::Forward(const torch::Tensor& embeddings, const KvCache& prefix, Tape& tape,
                                   ThreadTeam& team) const {
  const torch::InferenceMode inference;
  const ModelConfig& config = weights_.config;
  const int64_t rows = embeddings.size(0), groups = config.num_key_value_heads, length = tape.prefix + rows;
  tape.layers.front().input = embeddings.to(torch::kFloat32).contiguous();
  const torch::Tensor hidden = torch::empty({rows, config.hidden_size}, weights_.dtype);
  const int64_t parts = RowParts(rows, team);
  const double first = KeysLikeWeights(/*products=*/2) + static_cast<double>(tape.prefix);
  std::vector<kernels::AttentionOfRows> attention(parts);
  for (size_t i = 0; i <= tape.layers.size(); ++i) {
    const bool last = i == tape.layers.size();
    if (!last) {
      Tape::Layer& layer = tape.layers[i];
      layer.keys = torch::empty({groups, length, config.head_dim}, weights_.dtype);
      layer.values = torch::empty_like(layer.keys);
      if (tape.prefix > 0) {
        const auto [keys, values] = prefix.Gather(static_cast<int64_t>(i), tape.prefix);
        layer.keys.narrow(1, 0, tape.prefix).copy_(keys);
        layer.values.narrow(1, 0, tape.prefix).copy_(values);
      }
    }
    ForGrowingRowParts(team, rows, parts, first, [&](int64_t part, int64_t begin, int64_t end) {
      GiveWay();
      const ForwardRows mine(*this, tape, begin, end);
      if (i > 0) mine.AttendAndFinish(i - 1, last ? tape.last : tape.layers[i].input, attention[part]);
      if (last) {
        Copy(mine.Norm(mine.Mine(tape.last), final_norm_), mine.Mine(hidden));
      } else {
        mine.ProjectHeads(i);
      }
    });
  }
  return hidden;
}

class CpuGradient::BackwardRows : public Rows {
 public:
  // `gradient` float32 [n, H] is that at the residual stream, from the last layer to the first; `query_gradient`
  // float32 [n, heads · head dimension] that at the queries of a layer between its two steps.
  BackwardRows(const CpuGradient& pass, const Tape& tape, int64_t begin, int64_t end, const torch::Tensor& gradient,
               const torch::Tensor& query_gradient)
      : Rows(pass, tape, begin, end), gradient_(Mine(gradient)), query_gradient_(Mine(query_gradient)) {}

  // hidden_gradient [count, H]; `gradient` is still 0.
  void StartFrom(const torch::Tensor& hidden_gradient) const {
    AddNormBackward(Mine(tape_.last), pass_.final_norm_, hidden_gradient.contiguous());
  }

  // Through MLP and attention of a layer, to its queries and to what these queries want of all keys and values:
  // float32 [key/value heads, n, head dimension].
  void ThroughAttention(size_t index, const torch::Tensor& key_gradient, const torch::Tensor& value_gradient,
                        kernels::AttentionOfRows& attention) const {
    const Layer& layer = pass_.layers_[index];
    const Tape::Layer& tape = tape_.layers[index];
    const torch::ScalarType type = pass_.weights_.dtype;
    const int64_t inner = tape.gate.size(1);
    const torch::Tensor at_gated = layer.down.Backward(ProjectionInput(gradient_, type));
    const torch::Tensor at_gate_up = torch::empty({count_, 2 * inner}, ProjectionInput::TypeFor(type, 2 * inner));
    std::vector<float> gate, up, gated, row(2 * inner);
    for (int64_t i = 0; i < count_; ++i) {
      kernels::SiluMultiplyBackward(ReadRow(tape.gate, begin_ + i, gate), ReadRow(tape.up, begin_ + i, up),
                                    ReadRow(at_gated, i, gated), inner, row.data(), row.data() + inner);
      WriteRow(at_gate_up, i, row.data());
    }
    AddNormBackward(Mine(tape.middle), layer.post_attention_norm,
                    layer.gate_up.Backward(ProjectionInput(at_gate_up, type)));
    const torch::Tensor at_mixed = layer.output.Backward(ProjectionInput(gradient_, type));
    AttendBackward(tape, InFloat32(at_mixed), key_gradient, value_gradient, attention);
  }

  // From queries, keys and values to the layer's input. The gradients at these rows' keys and values are what all
  // queries want of them: sums over the parts of float32 `shares` [parts, 2, key/value heads, n, head dimension].
  void ThroughProjections(size_t index, const torch::Tensor& shares) const {
    const Layer& layer = pass_.layers_[index];
    const Tape::Layer& tape = tape_.layers[index];
    const torch::ScalarType type = pass_.weights_.dtype;
    const int64_t size = config_.head_dim, queries = query_gradient_.size(1), groups = config_.num_key_value_heads;
    const int64_t keys = groups * size, columns = queries + 2 * keys;
    const torch::Tensor at_heads = torch::empty({count_, columns}, ProjectionInput::TypeFor(type, columns));
    std::vector<float> none, row(columns);
    float *const query = row.data(), *const key = query + queries;
    for (int64_t i = 0; i < count_; ++i) {
      float* head = std::copy_n(ReadRow(query_gradient_, i, none), queries, query);
      for (int64_t group = 0; group < 2 * groups; ++group, head += size) {  // keys, then values
        const float* share = shares.data_ptr<float>() + group * shares.stride(2) + (begin_ + i) * size;
        std::copy_n(share, size, head);
        for (int64_t part = 1; part < shares.size(0); ++part) kernels::Add(share += shares.stride(0), size, head);
      }
      FinishHeadsBackward(i, layer.query_norm, tape.raw_query, queries, query);
      FinishHeadsBackward(i, layer.key_norm, tape.raw_key, keys, key);
      WriteRow(at_heads, i, row.data());
    }
    AddNormBackward(Mine(tape.input), layer.input_norm,
                    layer.query_key_value.Backward(ProjectionInput(at_heads, type)));
  }

 private:
  void AddNormBackward(const torch::Tensor& x, const std::vector<float>& weight,
                       const torch::Tensor& out_gradient) const {
    const int64_t hidden = x.size(1);
    std::vector<float> scratch;
    for (int64_t i = 0; i < x.size(0); ++i) {
      kernels::AddRmsNormBackward(x.data_ptr<float>() + i * hidden, weight.data(), ReadRow(out_gradient, i, scratch),
                                  hidden, static_cast<float>(config_.rms_norm_eps),
                                  gradient_.data_ptr<float>() + i * hidden);
    }
  }

  // Back through rotation and norm of every head in `columns` numbers of row `i`, in place; `raw` is what went into the
  // norm.
  void FinishHeadsBackward(int64_t i, const std::vector<float>& norm, const torch::Tensor& raw, int64_t columns,
                           float* row) const {
    const int64_t size = config_.head_dim, at = (tape_.prefix + begin_ + i) * size;
    std::vector<float> raw_row, at_raw(norm.size());
    for (int64_t head = 0; head < columns; head += size) {
      kernels::RotateBack(pass_.weights_.cosines.data_ptr<float>() + at, pass_.weights_.sines.data_ptr<float>() + at,
                          size, row + head);
      if (norm.empty()) continue;
      std::fill(at_raw.begin(), at_raw.end(), 0.0f);
      kernels::AddRmsNormBackward(ReadRow(raw, begin_ + i, raw_row) + head, norm.data(), row + head, size,
                                  static_cast<float>(config_.rms_norm_eps), at_raw.data());
      std::copy(at_raw.begin(), at_raw.end(), row + head);
    }
  }

  // The prefix is a constant: nobody asks for what these rows want of its keys and values.
  void AttendBackward(const Tape::Layer& tape, const torch::Tensor& mixed_gradient, const torch::Tensor& key_gradient,
                      const torch::Tensor& value_gradient, kernels::AttentionOfRows& attention) const {
    key_gradient.zero_();
    value_gradient.zero_();
    ForGroups([&](int64_t group, int64_t begin) {
      attention.Backward(HeadsOf(tape, group), mixed_gradient.data_ptr<float>() + begin,
                         query_gradient_.data_ptr<float>() + begin, tape_.prefix, key_gradient[group].data_ptr<float>(),
                         value_gradient[group].data_ptr<float>());
    });
  }

  const torch::Tensor gradient_, query_gradient_;  // these rows
};

torch::Tensor CpuGradient::Backward(const torch::Tensor& hidden_gradient, const Tape& tape, ThreadTeam& team) const {
  const torch::InferenceMode inference;
  const ModelConfig& config = weights_.config;
  const int64_t rows = tape.last.size(0), parts = RowParts(rows, team);
  const auto wide = [](at::IntArrayRef shape) { return torch::empty(shape, torch::kFloat32); };
  const torch::Tensor gradient = wide({rows, config.hidden_size}).zero_();
  const torch::Tensor query_gradient = wide({rows, config.num_heads * config.head_dim}).zero_();
  // Of two layers, of which one is read while the other is written.
  const torch::Tensor shares = wide({2, parts, 2, config.num_key_value_heads, rows, config.head_dim});
  const int64_t layers = static_cast<int64_t>(tape.layers.size());
  std::vector<kernels::AttentionOfRows> attention(parts);
  const auto through_attention = [&](const BackwardRows& mine, int64_t layer, int64_t part) {
    mine.ThroughAttention(static_cast<size_t>(layer), shares[layer % 2][part][0], shares[layer % 2][part][1],
                          attention[part]);
  };
  // The last layer, whose MLP and queries only the rows from `first_row` on have gone through.
  const int64_t first_row = rows - hidden_gradient.size(0);
  const double first = KeysLikeWeights(/*products=*/5) + static_cast<double>(tape.prefix);
  ForGrowingRowParts(team, rows, parts, first, [&](int64_t part, int64_t begin, int64_t end) {
    begin = std::max(begin, first_row);
    if (begin >= end) {
      shares[(layers - 1) % 2][part].zero_();
      return;
    }
    const BackwardRows mine(*this, tape, begin, end, gradient, query_gradient);
    mine.StartFrom(hidden_gradient.narrow(0, begin - first_row, end - begin));
    through_attention(mine, layers - 1, part);
  });
  for (int64_t i = layers - 1; i >= 0; --i) {
    ForGrowingRowParts(team, rows, parts, first, [&](int64_t part, int64_t begin, int64_t end) {
      const BackwardRows mine(*this, tape, begin, end, gradient, query_gradient);
      mine.ThroughProjections(static_cast<size_t>(i), shares[i % 2]);
      if (i > 0) through_attention(mine, i - 1, part);
    });
  }
  return gradient;
}

}  // namespace nabla
