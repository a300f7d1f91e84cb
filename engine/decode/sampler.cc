#include "engine/decode/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

namespace nabla {
namespace {

// The least logit that is among the k largest. Those that equal it stay too, as in transformers.
float TopKThreshold(absl::Span<const float> logits, int k) {
  if (k <= 0 || k >= static_cast<int>(logits.size())) return -std::numeric_limits<float>::infinity();
  std::vector<float> largest(k);
  std::partial_sort_copy(logits.begin(), logits.end(), largest.begin(), largest.end(), std::greater<float>());
  return largest.back();
}

// Keeps the smallest set of most likely tokens whose probability reaches top_p. `weights` are unnormalised, one a kept
// token.
void KeepTopP(double top_p, std::vector<int32_t>& kept, std::vector<double>& weights) {
  if (top_p >= 1.0) return;
  std::vector<size_t> order(kept.size());
  std::iota(order.begin(), order.end(), 0);
  const auto before = [&](size_t a, size_t b) { return weights[a] != weights[b] ? weights[a] > weights[b] : a < b; };
  const double wanted = top_p * std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0;
  size_t count = 0, sorted = 0;
  while (count < order.size() && sum < wanted) {
    if (count == sorted) {  // mostly a few tokens have it all: the rest need no order
      const auto first = order.begin() + static_cast<ptrdiff_t>(sorted);
      sorted = std::min(order.size(), std::max<size_t>(64, 8 * sorted));
      std::partial_sort(first, order.begin() + static_cast<ptrdiff_t>(sorted), order.end(), before);
    }
    sum += weights[order[count++]];
  }
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
  const float threshold = TopKThreshold(logits, options.top_k);
  std::vector<int32_t> kept;
  std::vector<double> weights;
  for (size_t token = 0; token < logits.size(); ++token) {
    if (logits[token] < threshold) continue;
    kept.push_back(static_cast<int32_t>(token));
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
