#include "engine/refine/refiner.h"

#include "engine/base/status_macros.h"
#include "engine/decode/session_state.h"
#include "engine/model/device.h"
#include "engine/refine/gradient_field.h"
#include "engine/refine/refinement.h"

namespace nabla {

Refiner::Refiner(const Session* session, ResponseScorer* scorer, const RefinementOptions& refinement,
                 const SelectorOptions& selectors)
    : session_(session), scorer_(scorer), refinement_(refinement), selectors_(selectors) {}
Refiner::~Refiner() = default;

std::shared_ptr<const GradientField> Refiner::KnownField() const {
  const bool known = field_ != nullptr && field_->first() <= session_->committed() &&
                     field_->response() == ArgmaxResponse(session_->state());
  return known ? field_ : nullptr;
}

absl::StatusOr<int> Refiner::CountUnmarked() {
  if (selectors_.min_gradient_norm && session_->ahead() > 0 && KnownField() == nullptr) {
    NABLA_RETURN_IF_ERROR(session_->stop().Check());
    const SessionState& state = session_->state();
    NABLA_ASSIGN_OR_RETURN(GradientField field, GradientField::Compute(state, *scorer_, refinement_,
                                                                       ArgmaxResponse(state), state.committed));
    field_ = std::make_shared<const GradientField>(std::move(field));
    norms_.clear();
  }
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
                   .gradient_steps = result.gradient_steps};
  });
}

}  // namespace nabla
