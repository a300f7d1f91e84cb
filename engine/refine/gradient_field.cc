#include "engine/refine/gradient_field.h"

#include <algorithm>

#include "engine/base/status_macros.h"
#include "engine/model/likelihood.h"

namespace nabla {

absl::StatusOr<GradientField> GradientField::Compute(const SessionState& state, ResponseScorer& scorer,
                                                     const RefinementOptions& options,
                                                     absl::Span<const int32_t> response, int first) {
  GradientField field;
  field.model_ = state.model;
  field.scorer_ = &scorer;
  field.likelihood_weight_ = options.likelihood_weight;
  field.reward_weight_ = options.reward_weight;
  field.response_.assign(response.begin(), response.end());
  field.first_ = first;
  if (options.likelihood_weight != 0) {
    const torch::AutoGradMode with_gradient(true);
    const int64_t rows = field.rows();
    // The last token is a target only; the first row's hidden state belongs to the constant prefix.
    field.hidden_ = state.hidden.narrow(0, first, 1).clone();
    field.input_gradient_ = torch::zeros({rows, field.hidden_.size(1)}, field.hidden_.options());
    if (rows > 1) {
      const Transformer& body = state.model->body();
      const torch::Tensor inputs = body.Embed(response.subspan(first, rows - 1)).detach().requires_grad_(true);
      const torch::Tensor hidden = body.Forward(inputs, state.cache, state.prompt_tokens() + first);
      const TokenLikelihood likelihood =
          ComputeTokenLikelihood(*state.model, hidden.detach(), response.subspan(first + 1), true);
      field.input_gradient_.narrow(0, 0, rows - 1)
          .copy_(torch::autograd::grad({hidden}, {inputs}, {likelihood.hidden_gradient})[0]);
      field.hidden_ = torch::cat({field.hidden_, hidden.detach()});
      ModelWork& work = state.usage->language_model;
      ++work.forward_passes, ++work.backward_passes;
      work.forward_tokens += rows - 1, work.backward_tokens += rows - 1;
    }
  }
  if (options.reward_weight != 0) {
    NABLA_ASSIGN_OR_RETURN(field.reward_gradient_, scorer.ScoreGradient(response, first));
  }
  ++state.usage->gradient_steps_computed;
  return field;
}

absl::StatusOr<torch::Tensor> GradientField::Rows(int64_t begin, int64_t end) const {
  const torch::NoGradGuard no_gradient;
  const int64_t count = end - begin;
  torch::Tensor rows =
      torch::zeros({count, model_->vocabulary_size()}, torch::TensorOptions(torch::kFloat32).device(model_->device()));
  if (likelihood_weight_ != 0) {
    rows.sub_(LogProbs(*model_, hidden_, begin, end), likelihood_weight_);
    rows.sub_(model_->ProjectToVocabulary(input_gradient_.narrow(0, begin, count)), likelihood_weight_);
  }
  if (reward_weight_ != 0) {
    NABLA_ASSIGN_OR_RETURN(std::vector<float> reward,
                           scorer_->OneHotGradient(reward_gradient_, static_cast<int>(begin), static_cast<int>(end)));
    rows.sub_(torch::from_blob(reward.data(), rows.sizes(), torch::kFloat32).to(model_->device()), reward_weight_);
  }
  return rows;
}

absl::StatusOr<std::vector<double>> GradientField::Norms() const {
  std::vector<double> norms;
  for (int64_t begin = 0; begin < rows(); begin += kVocabularyBlockRows) {
    NABLA_ASSIGN_OR_RETURN(const torch::Tensor block, Rows(begin, std::min(rows(), begin + kVocabularyBlockRows)));
    const torch::Tensor block_norms = block.norm(2, -1).to(torch::kCPU, torch::kFloat64).contiguous();
    norms.insert(norms.end(), block_norms.data_ptr<double>(), block_norms.data_ptr<double>() + block_norms.numel());
  }
  return norms;
}

}  // namespace nabla
