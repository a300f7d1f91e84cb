// Log-likelihood of tokens under a language model, and its gradient at the hidden states, in blocks of rows: no [L, V]
// tensor is ever alive (algorithm.md, equivalences 1 and 6). Includes torch.
#ifndef NABLA_ENGINE_MODEL_LIKELIHOOD_H_
#define NABLA_ENGINE_MODEL_LIKELIHOOD_H_

#include <torch/torch.h>

#include <vector>

#include "absl/types/span.h"
#include "engine/model/model.h"

namespace nabla {

// Rows of logits that a block of products makes at once.
inline constexpr int64_t kVocabularyBlockRows = 128;

struct TokenLikelihood {
  std::vector<double> log_probs;  // of targets[i] given hidden row i
  torch::Tensor hidden_gradient;  // ∂ Σ log_probs / ∂ hidden, [L, H] in the model's type; undefined unless asked for
};

// hidden [L, H], one row a target token. Call without autograd; back-propagate `hidden_gradient` through the body
// yourself.
TokenLikelihood ComputeTokenLikelihood(const Model& model, const torch::Tensor& hidden,
                                       absl::Span<const int32_t> targets, bool with_gradient);

// log softmax of the head's products of rows [begin, end) of hidden: float32 [end − begin, V].
torch::Tensor LogProbs(const Model& model, const torch::Tensor& hidden, int64_t begin, int64_t end);

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_LIKELIHOOD_H_
