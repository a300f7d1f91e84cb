// The steps of a refinement: Adam (β 0.9 and 0.999, ε 1e-8), the sign of the gradient, or the gradient itself, with a
// size that decays by a cosine, as algorithm.md asks. Includes torch.
//
//   Optimizer optimizer(options);
//   optimizer.Step(parameter, gradient);   // once an iteration; changes `parameter` in place
#ifndef NABLA_ENGINE_REFINE_OPTIMIZER_H_
#define NABLA_ENGINE_REFINE_OPTIMIZER_H_

#include <torch/torch.h>

#include "engine/base/request.h"

namespace nabla {

class Optimizer {
 public:
  explicit Optimizer(const RefinementOptions& options) : options_(options) {}

  // Both float32 and of one shape, `parameter` without gaps.
  void Step(torch::Tensor& parameter, const torch::Tensor& gradient);

 private:
  double NextRate();
  void StepAdam(torch::Tensor& parameter, const torch::Tensor& gradient, double rate);

  const RefinementOptions& options_;
  int steps_ = 0;
  torch::Tensor mean_, variance_;  // Adam's
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REFINE_OPTIMIZER_H_
