#include "engine/model/likelihood.h"

#include <algorithm>

namespace nabla {

torch::Tensor LogProbs(const Model& model, const torch::Tensor& hidden, int64_t begin, int64_t end) {
  return torch::log_softmax(model.Head(hidden.narrow(0, begin, end - begin)), -1);
}

TokenLikelihood ComputeTokenLikelihood(const Model& model, const torch::Tensor& hidden,
                                       absl::Span<const int32_t> targets, bool with_gradient) {
  const torch::NoGradGuard no_gradient;
  const int64_t rows = static_cast<int64_t>(targets.size());
  TokenLikelihood result;
  if (with_gradient) result.hidden_gradient = torch::empty_like(hidden);
  const torch::Tensor index = torch::from_blob(const_cast<int32_t*>(targets.data()), {rows, 1}, torch::kInt32)
                                  .to(model.device(), torch::kInt64);
  for (int64_t begin = 0; begin < rows; begin += kVocabularyBlockRows) {
    const int64_t end = std::min(rows, begin + kVocabularyBlockRows);
    const torch::Tensor block_index = index.narrow(0, begin, end - begin);
    torch::Tensor log_probs = LogProbs(model, hidden, begin, end);
    const torch::Tensor chosen = log_probs.gather(1, block_index).to(torch::kCPU, torch::kFloat64).contiguous();
    result.log_probs.insert(result.log_probs.end(), chosen.data_ptr<double>(),
                            chosen.data_ptr<double>() + (end - begin));
    if (!with_gradient) continue;
    // ∂ log softmax(W h)[t] / ∂h = (onehot(t) − softmax(W h)) W
    torch::Tensor difference = log_probs.exp_().neg_();
    difference.scatter_add_(1, block_index, torch::ones_like(block_index, difference.options()));
    result.hidden_gradient.narrow(0, begin, end - begin)
        .copy_(torch::matmul(difference.to(model.dtype()), model.head_weight()));
  }
  return result;
}

}  // namespace nabla
