// Direct textual optimisation (DTO): gradient descent on the ahead tokens' logits, or on the hidden states behind them.
// Includes torch.
//
// Source: algorithm.md, "Refinement (DTO)".  ∂Loss/∂z_i = p_i ⊙ (G_i − ⟨p_i, G_i⟩), G recomputed when an argmax has
// changed.
#ifndef NABLA_ENGINE_REFINE_REFINEMENT_H_
#define NABLA_ENGINE_REFINE_REFINEMENT_H_

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/request.h"
#include "engine/decode/session_state.h"
#include "engine/refine/gradient_field.h"
#include "engine/reward/response_scorer.h"

namespace nabla {

struct RefinementResult {
  torch::Tensor logits;         // float32 [R, V]: the rows that were free to move, 1 or (update_postfix) all L
  std::vector<int32_t> argmax;  // of all L rows, before options.max_kl takes the logits back
  double gradient_norm = 0;     // ‖G‖₂ of the first row where the refinement began; 0 with no iterations
  int gradient_steps = 0;       // the paper's count: an `initial` field that was given counts as one
};

// Refines the ahead tokens of a session, which has at least one. `initial` is the field at the rollout's argmax tokens
// or (Anchor::kRollout) own tokens if it is known, else null; where it was computed here it is stored there. Looks at
// the stop token before every gradient pass.
absl::StatusOr<RefinementResult> RefineAhead(const SessionState& state, ResponseScorer& scorer,
                                             const RefinementOptions& options,
                                             std::shared_ptr<const GradientField>& initial);

// Where the gradient is taken first: committed tokens, then the argmax of every ahead position, or the token there.
std::vector<int32_t> AnchorResponse(const SessionState& state, RefinementOptions::Anchor anchor);

}  // namespace nabla

#endif  // NABLA_ENGINE_REFINE_REFINEMENT_H_
