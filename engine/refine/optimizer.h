// Adam (β 0.9 and 0.999, ε 1e-8) whose step decays by a cosine, as algorithm.md asks. Includes torch.
//
//   AdamWithCosineDecay adam(learning_rate, min_ratio, iterations);
//   adam.Step(parameter, gradient);   // once an iteration; changes `parameter` in place
#ifndef NABLA_ENGINE_REFINE_OPTIMIZER_H_
#define NABLA_ENGINE_REFINE_OPTIMIZER_H_

#include <torch/torch.h>

namespace nabla {

class AdamWithCosineDecay {
 public:
  AdamWithCosineDecay(double learning_rate, double min_learning_rate_ratio, int iterations)
      : learning_rate_(learning_rate), min_ratio_(min_learning_rate_ratio), iterations_(iterations) {}

  void Step(torch::Tensor& parameter, const torch::Tensor& gradient);

 private:
  const double learning_rate_, min_ratio_;
  const int iterations_;
  int steps_ = 0;
  torch::Tensor mean_, variance_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REFINE_OPTIMIZER_H_
