#include "engine/refine/refinement.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/thread_priority.h"
#include "engine/kernels/backward.h"
#include "engine/kernels/elementwise.h"
#include "engine/refine/optimizer.h"

namespace nabla {
namespace {

// Gradients that a refinement keeps, each a few numbers for every hidden number of what is ahead.
constexpr size_t kKeptFields = 8;

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

std::vector<int32_t> ArgMaxes(const torch::Tensor& logits) {
  std::vector<int32_t> argmaxes;
  if (!logits.device().is_cpu()) {
    const torch::Tensor found = logits.argmax(-1).to(torch::kCPU, torch::kInt32);
    return {found.data_ptr<int32_t>(), found.data_ptr<int32_t>() + found.numel()};
  }
  for (int64_t i = 0; i < logits.size(0); ++i) {
    const int64_t count = logits.size(1);
    argmaxes.push_back(static_cast<int32_t>(kernels::ArgMax(logits.data_ptr<float>() + i * count, count)));
  }
  return argmaxes;
}

// The optimiser on the free rows, from one gradient to the next.
class Descent {
 public:
  Descent(const SessionState& state, const RefinementOptions& options, int64_t rows)
      : options_(options),
        first_(state.committed),
        parameters_(state, options.parameter, rows),
        optimizer_(options),
        tokens_(AnchorResponse(state, options.anchor)),
        argmax_(AnchorResponse(state, RefinementOptions::Anchor::kArgmax)),
        logits_(parameters_.Logits()) {
    if (options_.max_kl) initial_logits_ = logits_.clone();
  }

  // Iterates until `gradient`, G of the free rows at tokens(), is stale or all iterations are done.
  void StepWhileFresh(const torch::Tensor& gradient) {
    for (bool fresh = true; fresh && !done(); ++iteration_) {
      optimizer_.Step(parameters_.value, Direction(gradient));
      logits_ = parameters_.Logits();
      const std::vector<int32_t> now = ArgMaxes(logits_);
      fresh = options_.gradient_caching;
      for (size_t i = 0; i < now.size(); ++i) {
        if (now[i] == argmax_[first_ + i]) continue;
        tokens_[first_ + i] = argmax_[first_ + i] = now[i];
        fresh = false;
      }
      GiveWay();
    }
  }

  // Takes every row back towards where it began, until it is not further than options.max_kl.
  void StayNear() {
    const torch::Tensor way = logits_ - initial_logits_;
    const torch::Tensor before = torch::log_softmax(initial_logits_, -1);
    torch::Tensor low = torch::zeros({logits_.size(0), 1}, logits_.options()), high = torch::ones_like(low);
    const auto too_far = [&](const torch::Tensor& share) {
      const torch::Tensor now = torch::log_softmax(initial_logits_ + share * way, -1);
      return (now.exp() * (now - before)).sum(-1, /*keepdim=*/true).gt(*options_.max_kl);
    };
    if (!too_far(high).any().item<bool>()) return;
    constexpr int kHalvings = 20;  // the divergence grows with the share of the way
    for (int i = 0; i < kHalvings; ++i) {
      const torch::Tensor middle = (low + high) / 2, far = too_far(middle);
      high = torch::where(far, middle, high);
      low = torch::where(far, low, middle);
    }
    logits_ = torch::where(too_far(torch::ones_like(low)), initial_logits_ + low * way, logits_);
  }

  bool done() const { return iteration_ == options_.iterations; }
  const std::vector<int32_t>& tokens() const { return tokens_; }  // where the next gradient is to be taken
  const std::vector<int32_t>& argmax() const { return argmax_; }  // the response with the argmaxes of the ahead rows
  const torch::Tensor& logits() const { return logits_; }

 private:
  // What the optimiser follows: ∂Loss/∂ of the parameters, or G itself.
  torch::Tensor Direction(const torch::Tensor& gradient) const {
    if (options_.optimizer == RefinementOptions::Optimizer::kMirrorDescent) return gradient;
    if (logits_.device().is_cpu()) {  // the same in place
      const torch::Tensor probabilities = logits_.clone(), direction = gradient.clone();
      const int64_t count = logits_.size(1);
      for (int64_t i = 0; i < logits_.size(0); ++i) {
        float* const row = probabilities.data_ptr<float>() + i * count;
        kernels::Softmax(count, count, /*scale=*/1, row);
        kernels::SoftmaxBackward(row, count, /*scale=*/1, direction.data_ptr<float>() + i * count);
      }
      return parameters_.Gradient(direction);
    }
    const torch::Tensor probabilities = torch::softmax(logits_, -1);
    const torch::Tensor mean = (probabilities * gradient).sum(-1, /*keepdim=*/true);
    return parameters_.Gradient(probabilities * (gradient - mean));
  }

  const RefinementOptions& options_;
  const int first_;
  Parameters parameters_;
  Optimizer optimizer_;
  std::vector<int32_t> tokens_, argmax_;
  torch::Tensor logits_, initial_logits_;  // the latter only for StayNear
  int iteration_ = 0;
};

}  // namespace

std::vector<int32_t> AnchorResponse(const SessionState& state, RefinementOptions::Anchor anchor) {
  std::vector<int32_t> response = state.response;
  if (anchor == RefinementOptions::Anchor::kRollout) return response;
  for (size_t i = state.committed; i < response.size(); ++i) response[i] = state.stats[i].argmax;
  return response;
}

absl::StatusOr<RefinementResult> RefineAhead(const SessionState& state, ResponseScorer& scorer,
                                             const RefinementOptions& options,
                                             std::shared_ptr<const GradientField>& initial) {
  const int first = state.committed;
  const int64_t rows = options.update_postfix ? static_cast<int64_t>(state.response.size()) - first : 1;
  std::optional<Descent> descent;
  NABLA_RETURN_IF_ERROR(state.runner->Compute([&] { descent.emplace(state, options, rows); }));
  RefinementResult result;
  // The latest: argmaxes that flip go back to tokens they had before.
  std::deque<std::shared_ptr<const GradientField>> fields;
  if (initial != nullptr) fields.push_back(initial);
  while (!descent->done()) {
    NABLA_RETURN_IF_ERROR(state.stop->Check());
    const auto known = std::find_if(fields.begin(), fields.end(), [&](const auto& field) {
      return absl::MakeConstSpan(field->response()) == absl::MakeConstSpan(descent->tokens());
    });
    std::shared_ptr<const GradientField> field = known != fields.end() ? *known : nullptr;
    if (field == nullptr) {
      NABLA_ASSIGN_OR_RETURN(GradientField fresh,
                             GradientField::Compute(state, scorer, options, descent->tokens(), first));
      field = std::make_shared<const GradientField>(std::move(fresh));
      fields.push_back(field);
      if (fields.size() > kKeptFields) fields.pop_front();
      if (result.gradient_steps == 0) initial = field;
    }
    // update_postfix holds L×V here, as its logits are.
    NABLA_ASSIGN_OR_RETURN(const torch::Tensor gradient,
                           field->Rows(first - field->first(), first - field->first() + rows));
    NABLA_RETURN_IF_ERROR(state.runner->Compute([&] {
      if (result.gradient_steps == 0) result.gradient_norm = gradient[0].norm().item<double>();
      descent->StepWhileFresh(gradient);
    }));
    ++result.gradient_steps;
  }
  if (options.max_kl) NABLA_RETURN_IF_ERROR(state.runner->Compute([&] { descent->StayNear(); }));
  result.logits = descent->logits();
  result.argmax.assign(descent->argmax().begin() + first, descent->argmax().end());
  return result;
}

}  // namespace nabla
