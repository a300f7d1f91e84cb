// Selection and refinement for one request, in plain C++: which position to work on next, and its refined logits.
//
//   Refiner refiner(&session, &scorer, options.refinement, options.selectors);
//   NABLA_ASSIGN_OR_RETURN(int sure, refiner.CountUnmarked());   // tokens to commit before the position to refine
//   NABLA_ASSIGN_OR_RETURN(Refiner::Refined refined, refiner.Refine());
//
// Belongs to one request and one thread. A gradient computed for the selector, or for an earlier position of the same
// rollout, serves again as long as its tokens are the same (algorithm.md, equivalence 5).
#ifndef NABLA_ENGINE_REFINE_REFINER_H_
#define NABLA_ENGINE_REFINE_REFINER_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/request.h"
#include "engine/decode/session.h"
#include "engine/reward/response_scorer.h"

namespace nabla {

class GradientField;

class Refiner {
 public:
  struct Refined {
    std::vector<float> logits;  // of the first ahead position, [V]
    int gradient_steps = 0;     // the paper's count
    double gradient_norm = 0;   // ‖G‖₂ at the position
  };

  Refiner(const Session* session, ResponseScorer* scorer, const RefinementOptions& refinement,
          const SelectorOptions& selectors);
  ~Refiner();

  // Ahead tokens before the first that every selector marks; session.ahead() where none is marked.
  absl::StatusOr<int> CountUnmarked();

  // Needs an ahead token.
  absl::StatusOr<Refined> Refine();

  // Tokens that would lower the loss in the place of the first ahead one, going by the gradient: at most `count`, the
  // best first, among those that the language model finds plausible there. With Optimizer::kMirrorDescent, tokens that
  // its step would prefer to the first ahead one, the best first: the language model then has a say in the order, too.
  // Source: algorithm.md, "Candidate screening".
  struct Screened {
    std::vector<int32_t> candidates;
    int gradient_steps = 0;  // the paper's count
    double gradient_norm = 0;
  };
  absl::StatusOr<Screened> Screen(int count);

 private:
  // Computes field_ where no known one serves.
  absl::Status FindField();

  // The field at the anchor's tokens where it is known and still true, else null.
  std::shared_ptr<const GradientField> KnownField() const;

  const Session* session_;
  ResponseScorer* scorer_;
  const RefinementOptions refinement_;
  const SelectorOptions selectors_;
  std::shared_ptr<const GradientField> field_;  // latest at the anchor's tokens of a rollout
  std::vector<double> norms_;                   // of field_; empty until a selector asks
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REFINE_REFINER_H_
