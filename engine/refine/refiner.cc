#include "engine/refine/refiner.h"

#include <algorithm>

#include "engine/base/status_macros.h"
#include "engine/decode/session_state.h"
#include "engine/model/device.h"
#include "engine/refine/gradient_field.h"
#include "engine/refine/refinement.h"

namespace nabla {
namespace {

// The gradient knows nothing of what can be said here: tokens a thousand times less likely than the likeliest are left
// out.
constexpr float kLeastLogProbabilityRatio = -6.9f;

}  // namespace

Refiner::Refiner(const Session* session, ResponseScorer* scorer, const RefinementOptions& refinement,
                 const SelectorOptions& selectors)
    : session_(session), scorer_(scorer), refinement_(refinement), selectors_(selectors) {}
Refiner::~Refiner() = default;

std::shared_ptr<const GradientField> Refiner::KnownField() const {
  const bool known = field_ != nullptr && field_->first() <= session_->committed() &&
                     field_->response() == AnchorResponse(session_->state(), refinement_.anchor);
  return known ? field_ : nullptr;
}

absl::Status Refiner::FindField() {
  if (KnownField() != nullptr) return absl::OkStatus();
  NABLA_RETURN_IF_ERROR(session_->stop().Check());
  const SessionState& state = session_->state();
  NABLA_ASSIGN_OR_RETURN(
      GradientField field,
      GradientField::Compute(state, *scorer_, refinement_, AnchorResponse(state, refinement_.anchor), state.committed));
  field_ = std::make_shared<const GradientField>(std::move(field));
  norms_.clear();
  return absl::OkStatus();
}

absl::StatusOr<int> Refiner::CountUnmarked() {
  if (selectors_.min_gradient_norm && session_->ahead() > 0) NABLA_RETURN_IF_ERROR(FindField());
  if (selectors_.min_gradient_norm && session_->ahead() > 0 && norms_.empty()) {
    NABLA_ASSIGN_OR_RETURN(norms_, field_->Norms());
  }
  const int size = static_cast<int>(session_->response().size());
  for (int position = session_->committed(); position < size; ++position) {
    const PositionStats& stats = session_->stats(position);
    const bool unsure = !selectors_.max_confidence || stats.confidence <= *selectors_.max_confidence;
    const bool diffuse = !selectors_.min_entropy || stats.entropy >= *selectors_.min_entropy;
    const bool steep =
        !selectors_.min_gradient_norm || norms_[position - field_->first()] >= *selectors_.min_gradient_norm;
    if (unsure && diffuse && steep) return position - session_->committed();
  }
  return session_->ahead();
}

absl::StatusOr<Refiner::Refined> Refiner::Refine() {
  return GuardTorch([&]() -> absl::StatusOr<Refined> {
    std::shared_ptr<const GradientField> field = KnownField();
    NABLA_ASSIGN_OR_RETURN(const RefinementResult result, RefineAhead(session_->state(), *scorer_, refinement_, field));
    if (field != field_) {
      field_ = std::move(field);
      norms_.clear();
    }
    const torch::Tensor row = result.logits[0].to(torch::kCPU).contiguous();
    return Refined{.logits = std::vector<float>(row.data_ptr<float>(), row.data_ptr<float>() + row.numel()),
                   .gradient_steps = result.gradient_steps,
                   .gradient_norm = result.gradient_norm};
  });
}

absl::StatusOr<Refiner::Screened> Refiner::Screen(int count) {
  const std::shared_ptr<const GradientField> before = field_;
  NABLA_RETURN_IF_ERROR(FindField());
  Screened screened{.gradient_steps = field_ == before ? 0 : 1};
  const SessionState& state = session_->state();
  const int64_t row = state.committed - field_->first();
  NABLA_ASSIGN_OR_RETURN(const torch::Tensor field_row, field_->Rows(row, row + 1));
  NABLA_RETURN_IF_ERROR(state.runner->Compute([&] {
    const torch::Tensor gradient = field_row[0].to(torch::kCPU).contiguous();
    const torch::Tensor logits = state.model->Head(state.hidden.narrow(0, state.committed, 1))[0];
    const torch::Tensor likely = logits.to(torch::kCPU).contiguous();
    screened.gradient_norm = gradient.norm().item<double>();
    if (refinement_.optimizer == RefinementOptions::Optimizer::kMirrorDescent) {
      gradient.sub_(likely, 1 / refinement_.learning_rate);  // falls as the refined logits z − η·G rise
    }
    const float* const loss = gradient.data_ptr<float>();
    const float* const logit = likely.data_ptr<float>();
    const int32_t current = state.response[state.committed];
    float least_logit = *std::max_element(logit, logit + likely.numel()) + kLeastLogProbabilityRatio;
    if (refinement_.max_kl) {
      const auto least_log_probability = static_cast<float>(-*refinement_.max_kl);
      least_logit = std::max(least_logit, likely.logsumexp(0).item<float>() + least_log_probability);
    }
    for (int32_t token = 0; token < likely.numel(); ++token) {
      // Nothing stands behind an end.
      if (loss[token] < loss[current] && logit[token] >= least_logit && !state.model->IsEndOfSequence(token)) {
        screened.candidates.push_back(token);
      }
    }
    const auto end = std::min(screened.candidates.size(), static_cast<size_t>(count));
    std::partial_sort(screened.candidates.begin(), screened.candidates.begin() + static_cast<ptrdiff_t>(end),
                      screened.candidates.end(), [&](int32_t a, int32_t b) { return loss[a] < loss[b]; });
    screened.candidates.resize(end);
  }));
  return screened;
}

}  // namespace nabla
