// Derivatives of the row functions of elementwise.h, softmax with its own, and a step along a gradient, for gradients
// on a CPU. No torch.
//
// Every function works on one row of float32 numbers. Thread-safe.
#ifndef NABLA_ENGINE_KERNELS_BACKWARD_H_
#define NABLA_ENGINE_KERNELS_BACKWARD_H_

#include <cstdint>

namespace nabla::kernels {

// gradient += ∂⟨out_gradient, RmsNorm(x)⟩/∂x.
void AddRmsNormBackward(const float* x, const float* weight, const float* out_gradient, int64_t count, float epsilon,
                        float* gradient);

// Turns the other way round than Rotate, which is also Rotate's derivative.
void RotateBack(const float* cosines, const float* sines, int64_t count, float* x);

// Of out = silu(gate) · up: ∂/∂gate and ∂/∂up. The results may be the operands.
void SiluMultiplyBackward(const float* gate, const float* up, const float* out_gradient, int64_t count,
                          float* gate_gradient, float* up_gradient);

// scores = softmax(scale · scores) over the first `visible` of `count`, in place; those behind become 0.
void Softmax(int64_t visible, int64_t count, float scale, float* scores);

// log Σ exp(x).
float LogSumExp(const float* x, int64_t count);

// out = exp(x − offset). `out` may be `x`.
void ExpMinus(const float* x, int64_t count, float offset, float* out);

// The gradient at the weights of a softmax becomes that at its unscaled scores, in place.
void SoftmaxBackward(const float* weights, int64_t count, float scale, float* gradient);

// Adam's constants: what remains of its two means at a step, and what keeps it from dividing by 0.
inline constexpr double kAdamBeta1 = 0.9, kAdamBeta2 = 0.999, kAdamEpsilon = 1e-8;

// A step of Adam with means of the gradient and of its square that are kept between steps:
// x −= rate · mean / (root_scale · √variance + ε). Bias corrections are the caller's: they are in the two factors.
void StepAdam(const float* gradient, int64_t count, float rate, float root_scale, float* mean, float* variance,
              float* x);

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_BACKWARD_H_
