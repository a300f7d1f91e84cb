#include "engine/model/transformer.h"

#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

// Llama 3.1's scaling: long wavelengths are divided by the factor, short ones kept, those between blended.
torch::Tensor ScaleFrequencies(const torch::Tensor& frequencies, const Llama3RopeScaling& scaling) {
  const double low_wavelength = scaling.original_max_position_embeddings / scaling.low_frequency_factor;
  const double high_wavelength = scaling.original_max_position_embeddings / scaling.high_frequency_factor;
  const torch::Tensor wavelength = 2 * std::numbers::pi / frequencies;
  const torch::Tensor smooth = (scaling.original_max_position_embeddings / wavelength - scaling.low_frequency_factor) /
                               (scaling.high_frequency_factor - scaling.low_frequency_factor);
  const torch::Tensor blended = (1 - smooth) * frequencies / scaling.factor + smooth * frequencies;
  const torch::Tensor slow = torch::where(wavelength > low_wavelength, frequencies / scaling.factor, frequencies);
  return torch::where(wavelength.ge(high_wavelength).logical_and(wavelength.le(low_wavelength)), blended, slow);
}

absl::StatusOr<Linear> LoadLinear(const Weights& weights, const std::string& name, int64_t out, int64_t in, bool bias) {
  Linear linear;
  NABLA_ASSIGN_OR_RETURN(linear.weight, weights.Get(name + ".weight", {out, in}));
  if (bias) {
    NABLA_ASSIGN_OR_RETURN(linear.bias, weights.Get(name + ".bias", {out}));
  }
  return linear;
}

}  // namespace

Transformer::Transformer(const ModelConfig& config, int64_t max_length, torch::ScalarType dtype, torch::Device device)
    : config_(config), dtype_(dtype), device_(device) {
  const torch::Tensor exponents = torch::arange(0, config.head_dim, 2, torch::kFloat32) / config.head_dim;
  torch::Tensor frequencies = 1.0 / torch::pow(config.rope_theta, exponents);
  if (config.rope_scaling) frequencies = ScaleFrequencies(frequencies, *config.rope_scaling);
  const torch::Tensor half = torch::outer(torch::arange(max_length, torch::kFloat32), frequencies);
  const torch::Tensor angles = torch::cat({half, half}, 1);
  cos_ = angles.cos().to(device, dtype);
  sin_ = angles.sin().to(device, dtype);
}

absl::StatusOr<Transformer> Transformer::Load(const ModelConfig& config, const Weights& weights, int64_t max_length,
                                              torch::ScalarType dtype, torch::Device device) {
  Transformer body(config, max_length, dtype, device);
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t query_size = config.num_heads * config.head_dim,
                key_size = config.num_key_value_heads * config.head_dim;
  NABLA_ASSIGN_OR_RETURN(body.embedding_, weights.Get("model.embed_tokens.weight", {config.vocabulary_size, hidden}));
  NABLA_ASSIGN_OR_RETURN(body.final_norm_, weights.Get("model.norm.weight", {hidden}));
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string prefix = absl::StrCat("model.layers.", i, ".");
    const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
    Layer layer;
    NABLA_ASSIGN_OR_RETURN(layer.input_norm, weights.Get(prefix + "input_layernorm.weight", {hidden}));
    NABLA_ASSIGN_OR_RETURN(layer.post_attention_norm,
                           weights.Get(prefix + "post_attention_layernorm.weight", {hidden}));
    NABLA_ASSIGN_OR_RETURN(layer.query,
                           LoadLinear(weights, attention + "q_proj", query_size, hidden, config.attention_bias));
    NABLA_ASSIGN_OR_RETURN(layer.key,
                           LoadLinear(weights, attention + "k_proj", key_size, hidden, config.attention_bias));
    NABLA_ASSIGN_OR_RETURN(layer.value,
                           LoadLinear(weights, attention + "v_proj", key_size, hidden, config.attention_bias));
    NABLA_ASSIGN_OR_RETURN(layer.output,
                           LoadLinear(weights, attention + "o_proj", hidden, query_size, config.attention_output_bias));
    if (config.family == ModelConfig::Family::kQwen3) {
      NABLA_ASSIGN_OR_RETURN(layer.query_norm, weights.Get(attention + "q_norm.weight", {config.head_dim}));
      NABLA_ASSIGN_OR_RETURN(layer.key_norm, weights.Get(attention + "k_norm.weight", {config.head_dim}));
    }
    NABLA_ASSIGN_OR_RETURN(layer.gate, LoadLinear(weights, mlp + "gate_proj", inner, hidden, config.mlp_bias));
    NABLA_ASSIGN_OR_RETURN(layer.up, LoadLinear(weights, mlp + "up_proj", inner, hidden, config.mlp_bias));
    NABLA_ASSIGN_OR_RETURN(layer.down, LoadLinear(weights, mlp + "down_proj", hidden, inner, config.mlp_bias));
    body.layers_.push_back(std::move(layer));
  }
  return body;
}

torch::Tensor Transformer::Embed(absl::Span<const int32_t> ids) const {
  const torch::Tensor index =
      torch::from_blob(const_cast<int32_t*>(ids.data()), {static_cast<int64_t>(ids.size())}, torch::kInt32);
  return embedding_.index_select(0, index.to(device_, torch::kInt64));
}

torch::Tensor Transformer::Norm(const torch::Tensor& x, const torch::Tensor& weight) const {
  const torch::Tensor wide = x.to(torch::kFloat32);
  const torch::Tensor scaled = wide * torch::rsqrt(wide.pow(2).mean(-1, /*keepdim=*/true) + config_.rms_norm_eps);
  return weight * scaled.to(dtype_);
}

// x [heads, n, head dimension], rotated by halves as Hugging Face stores the weights.
torch::Tensor Transformer::Rotate(const torch::Tensor& x, int64_t position) const {
  const int64_t half = config_.head_dim / 2;
  const torch::Tensor turned = torch::cat({-x.narrow(-1, half, half), x.narrow(-1, 0, half)}, -1);
  return x * cos_.narrow(0, position, x.size(1)) + turned * sin_.narrow(0, position, x.size(1));
}

// query [heads, n, head dimension], keys and values [key/value heads, T, head dimension]; each key/value head serves a
// group of query heads.
torch::Tensor Transformer::Attend(const torch::Tensor& query, const torch::Tensor& keys, const torch::Tensor& values,
                                  const torch::Tensor& mask) const {
  const int64_t count = query.size(1), length = keys.size(1), groups = config_.num_key_value_heads;
  const torch::Tensor grouped = query.reshape({groups, -1, config_.head_dim});
  torch::Tensor scores =
      torch::matmul(grouped, keys.transpose(1, 2)) * (1.0 / std::sqrt(static_cast<double>(config_.head_dim)));
  if (mask.defined()) scores = (scores.view({groups, -1, count, length}) + mask).view({groups, -1, length});
  const torch::Tensor weights = torch::softmax(scores, -1, torch::kFloat32).to(dtype_);
  return torch::matmul(weights, values)
      .view({config_.num_heads, count, config_.head_dim})
      .transpose(0, 1)
      .reshape({count, -1});
}

template <typename KeysAndValues>
torch::Tensor Transformer::Run(torch::Tensor x, int64_t position, const KeysAndValues& keys_and_values) const {
  const int64_t count = x.size(0);
  torch::Tensor mask;
  if (count > 1) {  // row i sees everything up to position + i
    mask =
        torch::full({count, position + count}, -std::numeric_limits<float>::infinity(), x.options()).triu(position + 1);
  }
  const auto heads = [&](const torch::Tensor& projected) {
    return projected.view({count, -1, config_.head_dim}).transpose(0, 1);
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const torch::Tensor input = Norm(x, layer.input_norm);
    torch::Tensor query = heads(layer.query(input)), key = heads(layer.key(input));
    if (layer.query_norm.defined()) query = Norm(query, layer.query_norm), key = Norm(key, layer.key_norm);
    const auto [keys, values] = keys_and_values(i, Rotate(key, position), heads(layer.value(input)));
    x = x + layer.output(Attend(Rotate(query, position), keys, values, mask));
    const torch::Tensor inner = Norm(x, layer.post_attention_norm);
    x = x + layer.down(torch::silu(layer.gate(inner)) * layer.up(inner));
  }
  return Norm(x, final_norm_);
}

torch::Tensor Transformer::Extend(const torch::Tensor& embeddings, KvCache& cache) const {
  const torch::InferenceMode inference;
  const int64_t position = cache.length(), length = position + embeddings.size(0);
  TORCH_CHECK(length <= cache.capacity(), "the key/value cache holds ", cache.capacity(), " tokens, ", length,
              " are needed");
  torch::Tensor hidden =
      Run(embeddings, position, [&](int64_t layer, const torch::Tensor& keys, const torch::Tensor& values) {
        cache.Write(layer, position, keys, values);
        return std::pair(cache.Keys(layer, length), cache.Values(layer, length));
      });
  cache.SetLength(length);
  return hidden;
}

torch::Tensor Transformer::Forward(const torch::Tensor& embeddings, const KvCache& prefix,
                                   int64_t prefix_length) const {
  TORCH_CHECK(prefix_length <= prefix.length(), "the prefix holds ", prefix.length(), " tokens, ", prefix_length,
              " are needed");
  return Run(embeddings, prefix_length, [&](int64_t layer, const torch::Tensor& keys, const torch::Tensor& values) {
    return std::pair(torch::cat({prefix.Keys(layer, prefix_length), keys}, 1),
                     torch::cat({prefix.Values(layer, prefix_length), values}, 1));
  });
}

}  // namespace nabla
