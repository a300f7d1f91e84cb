#include "engine/refine/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace nabla {

double Optimizer::NextRate() {
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * steps_++ / options_.iterations));
  return options_.learning_rate * std::max(options_.min_learning_rate_ratio, cosine);
}

void Optimizer::Step(torch::Tensor& parameter, const torch::Tensor& gradient) {
  const double rate = NextRate();
  switch (options_.optimizer) {
    case RefinementOptions::Optimizer::kAdam:
      return StepAdam(parameter, gradient, rate);
    case RefinementOptions::Optimizer::kMirrorDescent:
      parameter.sub_(gradient, rate);
      return;
    case RefinementOptions::Optimizer::kSign:
      parameter.sub_(gradient.sign(), rate);
      return;
  }
}

void Optimizer::StepAdam(torch::Tensor& parameter, const torch::Tensor& gradient, double rate) {
  constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;
  if (!mean_.defined()) {
    mean_ = torch::zeros_like(parameter);
    variance_ = torch::zeros_like(parameter);
  }
  mean_.mul_(kBeta1).add_(gradient, 1 - kBeta1);
  variance_.mul_(kBeta2).addcmul_(gradient, gradient, 1 - kBeta2);
  const torch::Tensor denominator = (variance_.sqrt() / std::sqrt(1 - std::pow(kBeta2, steps_))).add_(kEpsilon);
  parameter.addcdiv_(mean_, denominator, -rate / (1 - std::pow(kBeta1, steps_)));
}

}  // namespace nabla
