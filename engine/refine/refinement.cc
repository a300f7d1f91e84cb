#include "engine/refine/refinement.h"

#include "engine/base/status_macros.h"
#include "engine/refine/optimizer.h"

namespace nabla {
namespace {

// The tensor the optimiser moves, and how logits and their gradient relate to it.
class Parameters {
 public:
  Parameters(const SessionState& state, RefinementOptions::Parameter kind, int64_t rows)
      : model_(*state.model), kind_(kind) {
    const torch::Tensor hidden = state.hidden.narrow(0, state.committed, rows);
    value = kind == RefinementOptions::Parameter::kHidden
                ? hidden.to(torch::kFloat32, /*non_blocking=*/false, /*copy=*/true)
                : model_.Head(hidden);
  }

  torch::Tensor Logits() const {
    return kind_ == RefinementOptions::Parameter::kHidden ? model_.Head(value.to(model_.dtype())) : value;
  }

  torch::Tensor Gradient(const torch::Tensor& logits_gradient) const {
    if (kind_ == RefinementOptions::Parameter::kLogits) return logits_gradient;
    return torch::matmul(logits_gradient.to(model_.dtype()), model_.head_weight()).to(torch::kFloat32);
  }

  torch::Tensor value;

 private:
  const Model& model_;
  const RefinementOptions::Parameter kind_;
};

}  // namespace

std::vector<int32_t> ArgmaxResponse(const SessionState& state) {
  std::vector<int32_t> response = state.response;
  for (size_t i = state.committed; i < response.size(); ++i) response[i] = state.stats[i].argmax;
  return response;
}

absl::StatusOr<RefinementResult> RefineAhead(const SessionState& state, ResponseScorer& scorer,
                                             const RefinementOptions& options,
                                             std::shared_ptr<const GradientField>& initial) {
  const torch::NoGradGuard no_gradient;
  const int first = state.committed;
  const int64_t rows = options.update_postfix ? static_cast<int64_t>(state.response.size()) - first : 1;
  Parameters parameters(state, options.parameter, rows);
  AdamWithCosineDecay adam(options.learning_rate, options.min_learning_rate_ratio, options.iterations);
  std::vector<int32_t> tokens = ArgmaxResponse(state);
  RefinementResult result;
  torch::Tensor gradient;  // G of the free rows at `tokens`; undefined when stale. update_postfix holds L×V here, as
                           // its logits are
  torch::Tensor logits = parameters.Logits();
  for (int i = 0; i < options.iterations; ++i) {
    if (!gradient.defined()) {
      NABLA_RETURN_IF_ERROR(state.stop->Check());
      std::shared_ptr<const GradientField> field = i == 0 ? initial : nullptr;
      if (field == nullptr) {
        NABLA_ASSIGN_OR_RETURN(GradientField fresh, GradientField::Compute(state, scorer, options, tokens, first));
        field = std::make_shared<const GradientField>(std::move(fresh));
        if (i == 0) initial = field;
      }
      NABLA_ASSIGN_OR_RETURN(gradient, field->Rows(first - field->first(), first - field->first() + rows));
      ++result.gradient_steps;
    }
    const torch::Tensor probabilities = torch::softmax(logits, -1);
    const torch::Tensor mean = (probabilities * gradient).sum(-1, /*keepdim=*/true);
    adam.Step(parameters.value, parameters.Gradient(probabilities * (gradient - mean)));
    logits = parameters.Logits();
    const torch::Tensor argmax = logits.argmax(-1).to(torch::kCPU, torch::kInt32);
    const absl::Span<const int32_t> now(argmax.data_ptr<int32_t>(), rows);
    if (now != absl::MakeConstSpan(tokens).subspan(first, rows)) {
      std::copy(now.begin(), now.end(), tokens.begin() + first);
      gradient = torch::Tensor();
    }
    if (!options.gradient_caching) gradient = torch::Tensor();
  }
  result.logits = logits;
  result.argmax.assign(tokens.begin() + first, tokens.end());
  return result;
}

}  // namespace nabla
