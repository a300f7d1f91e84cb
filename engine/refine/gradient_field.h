// The gradient of the loss at the one-hots of the ahead tokens, kept as what it is made of: L×H, never L×V.
//
//   NABLA_ASSIGN_OR_RETURN(GradientField field, GradientField::Compute(state, scorer, options, response,
//   /*first=*/committed)); NABLA_ASSIGN_OR_RETURN(torch::Tensor g, field.Rows(0, 1));   // float32 [1, V] on the
//   model's device
//
// Blocks: passes and products run on the engine's execution thread, between two decode steps; a reward model in another
// process computes meanwhile. Source: algorithm.md, "Refinement (DTO)":
//
//   G_i = −λ·logp_i − λ·E_LM·∂LL/∂x_i − ρ·∂R/∂e_i
//
// The forward value of a straight-through one-hot is its token, so the field is computed at token ids (equivalence 1);
// prompt and committed tokens are constants from the cache (equivalence 4). Includes torch. Immutable once computed.
#ifndef NABLA_ENGINE_REFINE_GRADIENT_FIELD_H_
#define NABLA_ENGINE_REFINE_GRADIENT_FIELD_H_

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/request.h"
#include "engine/decode/session_state.h"
#include "engine/reward/response_scorer.h"

namespace nabla {

class GradientField {
 public:
  // At `response`, whose tokens from `first` on are free. Its tokens before `first` are those of the session. Counts
  // the passes in `usage`.
  static absl::StatusOr<GradientField> Compute(const SessionState& state, ResponseScorer& scorer,
                                               const RefinementOptions& options, absl::Span<const int32_t> response,
                                               int first);

  // G for response positions first() + [begin, end): float32 [end − begin, V] on the model's device. Make few at a
  // time.
  absl::StatusOr<torch::Tensor> Rows(int64_t begin, int64_t end) const;

  // ‖G_i‖₂ of every row, in blocks (equivalence 3).
  absl::StatusOr<std::vector<double>> Norms() const;

  const std::vector<int32_t>& response() const { return response_; }
  int first() const { return first_; }
  int64_t rows() const { return static_cast<int64_t>(response_.size()) - first_; }

 private:
  absl::Status ComputeLikelihoodPart(const SessionState& state);

  ModelRunner* runner_ = nullptr;
  ResponseScorer* scorer_ = nullptr;
  double likelihood_weight_ = 0, reward_weight_ = 0;
  std::vector<int32_t> response_;
  int first_ = 0;
  torch::Tensor hidden_;          // [L, H]: the states that predict the rows
  torch::Tensor input_gradient_;  // ∂LL/∂x, [L, H]
  RewardGradient reward_gradient_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REFINE_GRADIENT_FIELD_H_
