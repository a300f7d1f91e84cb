#include "engine/refine/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/kernels/backward.h"

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
  using kernels::kAdamBeta1, kernels::kAdamBeta2, kernels::kAdamEpsilon;
  if (!mean_.defined()) {
    mean_ = torch::zeros_like(parameter);
    variance_ = torch::zeros_like(parameter);
  }
  const double rate_now = rate / (1 - std::pow(kAdamBeta1, steps_)),
               root_scale = 1 / std::sqrt(1 - std::pow(kAdamBeta2, steps_));
  if (parameter.device().is_cpu()) {  // in one go: a vocabulary's worth of numbers fits no cache a dozen times
    const torch::Tensor numbers = gradient.contiguous();
    kernels::StepAdam(numbers.data_ptr<float>(), numbers.numel(), static_cast<float>(rate_now),
                      static_cast<float>(root_scale), mean_.data_ptr<float>(), variance_.data_ptr<float>(),
                      parameter.data_ptr<float>());
    return;
  }
  mean_.mul_(kAdamBeta1).add_(gradient, 1 - kAdamBeta1);
  variance_.mul_(kAdamBeta2).addcmul_(gradient, gradient, 1 - kAdamBeta2);
  parameter.addcdiv_(mean_, variance_.sqrt().mul_(root_scale).add_(kAdamEpsilon), -rate_now);
}

}  // namespace nabla
