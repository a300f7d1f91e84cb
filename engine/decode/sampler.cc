#include "engine/decode/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

namespace nabla {
namespace {

// Keeps the tokens whose logit is among the k largest; equals of the k-th stay too, as in transformers.
void KeepTopK(absl::Span<const float> logits, int k, std::vector<int32_t>& kept) {
  if (k <= 0 || k >= static_cast<int>(kept.size())) return;
  std::vector<float> values(logits.begin(), logits.end());
  std::nth_element(values.begin(), values.begin() + (k - 1), values.end(), std::greater<float>());
  const float threshold = values[k - 1];
  kept.erase(std::remove_if(kept.begin(), kept.end(), [&](int32_t token) { return logits[token] < threshold; }),
             kept.end());
}

// Keeps the smallest set of most likely tokens whose probability reaches top_p. `weights` are unnormalised, one a kept
// token.
void KeepTopP(double top_p, std::vector<int32_t>& kept, std::vector<double>& weights) {
  if (top_p >= 1.0) return;
  std::vector<size_t> order(kept.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return weights[a] > weights[b]; });
  const double wanted = top_p * std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0;
  size_t count = 0;
  while (count < order.size() && sum < wanted) sum += weights[order[count++]];
  order.resize(std::max<size_t>(count, 1));
  std::sort(order.begin(), order.end());
  std::vector<int32_t> tokens;
  std::vector<double> token_weights;
  for (const size_t i : order) {
    tokens.push_back(kept[i]);
    token_weights.push_back(weights[i]);
  }
  kept = std::move(tokens);
  weights = std::move(token_weights);
}

}  // namespace

int32_t SampleToken(absl::Span<const float> logits, const SamplingOptions& options, RandomSource& random) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (options.temperature == 0.0) return static_cast<int32_t>(largest - logits.begin());
  std::vector<int32_t> kept(logits.size());
  std::iota(kept.begin(), kept.end(), 0);
  KeepTopK(logits, options.top_k, kept);
  std::vector<double> weights;
  weights.reserve(kept.size());
  for (const int32_t token : kept) {
    weights.push_back(std::exp((static_cast<double>(logits[token]) - *largest) / options.temperature));
  }
  KeepTopP(options.top_p, kept, weights);
  double rest = random.Uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
  for (size_t i = 0; i < kept.size(); ++i) {
    rest -= weights[i];
    if (rest < 0) return kept[i];
  }
  return kept.back();  // rounding left a crumb
}

}  // namespace nabla
