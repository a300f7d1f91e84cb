#include "engine/refine/refinement.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/model/device.h"
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

// Adam on the free rows, from one gradient to the next.
class Descent {
 public:
  Descent(const SessionState& state, const RefinementOptions& options, int64_t rows)
      : options_(options),
        first_(state.committed),
        parameters_(state, options.parameter, rows),
        adam_(options.learning_rate, options.min_learning_rate_ratio, options.iterations),
        tokens_(ArgmaxResponse(state)),
        logits_(parameters_.Logits()) {}

  // Iterates until `gradient`, G of the free rows at tokens(), is stale or all iterations are done.
  void StepWhileFresh(const torch::Tensor& gradient) {
    for (bool fresh = true; fresh && !done(); ++iteration_) {
      const torch::Tensor probabilities = torch::softmax(logits_, -1);
      const torch::Tensor mean = (probabilities * gradient).sum(-1, /*keepdim=*/true);
      adam_.Step(parameters_.value, parameters_.Gradient(probabilities * (gradient - mean)));
      logits_ = parameters_.Logits();
      const torch::Tensor argmax = logits_.argmax(-1).to(torch::kCPU, torch::kInt32);
      const absl::Span<const int32_t> now(argmax.data_ptr<int32_t>(), logits_.size(0));
      fresh = options_.gradient_caching;
      if (now != absl::MakeConstSpan(tokens_).subspan(first_, now.size())) {
        std::copy(now.begin(), now.end(), tokens_.begin() + first_);
        fresh = false;
      }
    }
  }

  bool done() const { return iteration_ == options_.iterations; }
  const std::vector<int32_t>& tokens() const { return tokens_; }  // the response with the argmaxes of the ahead rows
  const torch::Tensor& logits() const { return logits_; }

 private:
  const RefinementOptions& options_;
  const int first_;
  Parameters parameters_;
  AdamWithCosineDecay adam_;
  std::vector<int32_t> tokens_;
  torch::Tensor logits_;
  int iteration_ = 0;
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
  const auto run_alone = [&](const auto& work) {
    return state.runner->batcher().RunAlone([&] {
      return GuardTorch([&] {
        const torch::NoGradGuard no_gradient;
        work();
        return absl::OkStatus();
      });
    });
  };
  const int first = state.committed;
  const int64_t rows = options.update_postfix ? static_cast<int64_t>(state.response.size()) - first : 1;
  std::optional<Descent> descent;
  NABLA_RETURN_IF_ERROR(run_alone([&] { descent.emplace(state, options, rows); }));
  RefinementResult result;
  while (!descent->done()) {
    NABLA_RETURN_IF_ERROR(state.stop->Check());
    std::shared_ptr<const GradientField> field = result.gradient_steps == 0 ? initial : nullptr;
    if (field == nullptr) {
      NABLA_ASSIGN_OR_RETURN(GradientField fresh,
                             GradientField::Compute(state, scorer, options, descent->tokens(), first));
      field = std::make_shared<const GradientField>(std::move(fresh));
      if (result.gradient_steps == 0) initial = field;
    }
    // update_postfix holds L×V here, as its logits are.
    NABLA_ASSIGN_OR_RETURN(const torch::Tensor gradient,
                           field->Rows(first - field->first(), first - field->first() + rows));
    NABLA_RETURN_IF_ERROR(run_alone([&] { descent->StepWhileFresh(gradient); }));
    ++result.gradient_steps;
  }
  result.logits = descent->logits();
  result.argmax.assign(descent->tokens().begin() + first, descent->tokens().end());
  return result;
}

}  // namespace nabla
