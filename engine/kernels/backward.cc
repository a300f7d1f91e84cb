#include "engine/kernels/backward.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/backward.cc"
#include "hwy/foreach_target.h"
// Behind foreach_target.h.
#include "engine/kernels/row-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace nabla::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Vector = hn::Vec<Tag>;

// 1 / (1 + exp(−x)).
Vector Sigmoid(Vector x) {
  const Tag d;
  const auto one = hn::Set(d, 1.0f);
  // exp overflows beyond 88; the sigmoid is 0 there to float32's last digit.
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(x), hn::Set(d, 88.0f)))));
}

float Dot(const float* x, const float* y, int64_t count) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  Vector sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) sum = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sum);
  if (i < count) sum = hn::MulAdd(LoadWideFirst(d, x + i, count - i), LoadWideFirst(d, y + i, count - i), sum);
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// out = w · x · s with s = (mean(x²) + ε)^−½:  ∂/∂x = s · (w · g − x · s² · mean(w · g · x)).
void AddRmsNormBackward(const float* x, const float* weight, const float* out_gradient, int64_t count, float epsilon,
                        float* gradient) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  Vector sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const Vector weighted = hn::Mul(hn::LoadU(d, weight + i), hn::LoadU(d, out_gradient + i));
    sum = hn::MulAdd(weighted, hn::LoadU(d, x + i), sum);
  }
  if (i < count) {
    const int64_t rest = count - i;
    const Vector weighted = hn::Mul(LoadWideFirst(d, weight + i, rest), LoadWideFirst(d, out_gradient + i, rest));
    sum = hn::MulAdd(weighted, LoadWideFirst(d, x + i, rest), sum);
  }
  const float numbers = static_cast<float>(count);
  const float scale = 1.0f / std::sqrt(Dot(x, x, count) / numbers + epsilon);
  const Vector factor = hn::Set(d, scale);
  const Vector along_x = hn::Set(d, -scale * scale * scale * hn::GetLane(hn::SumOfLanes(d, sum)) / numbers);
  ForEach(
      count, gradient,
      [factor, along_x](Vector value, Vector w, Vector g, Vector before)
          HWY_ATTR { return hn::Add(before, hn::MulAdd(value, along_x, hn::Mul(factor, hn::Mul(w, g)))); },
      x, weight, out_gradient, static_cast<const float*>(gradient));
}

void RotateBack(const float* cosines, const float* sines, int64_t count, float* x) {
  const int64_t half = count / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float low = x[i], high = x[i + half];
    x[i] = low * cosines[i] + high * sines[i + half];
    x[i + half] = high * cosines[i + half] - low * sines[i];
  }
}

// silu(x) = x · σ(x), silu′(x) = σ(x) · (1 + x · (1 − σ(x))).
void SiluMultiplyBackward(const float* gate, const float* up, const float* out_gradient, int64_t count,
                          float* gate_gradient, float* up_gradient) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto derive = [](Vector x, Vector factor, Vector g, Vector& at_gate, Vector& at_up) HWY_ATTR {
    const Vector one = hn::Set(Tag(), 1.0f), sigmoid = Sigmoid(x);
    at_up = hn::Mul(g, hn::Mul(x, sigmoid));
    at_gate = hn::Mul(hn::Mul(g, factor), hn::Mul(sigmoid, hn::MulAdd(x, hn::Sub(one, sigmoid), one)));
  };
  Vector at_gate, at_up;
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    derive(hn::LoadU(d, gate + i), hn::LoadU(d, up + i), hn::LoadU(d, out_gradient + i), at_gate, at_up);
    hn::StoreU(at_gate, d, gate_gradient + i);
    hn::StoreU(at_up, d, up_gradient + i);
  }
  if (i == count) return;
  const int64_t rest = count - i;
  derive(LoadWideFirst(d, gate + i, rest), LoadWideFirst(d, up + i, rest), LoadWideFirst(d, out_gradient + i, rest),
         at_gate, at_up);
  StoreFirst(at_gate, gate_gradient + i, rest);
  StoreFirst(at_up, up_gradient + i, rest);
}

void Softmax(int64_t visible, int64_t count, float scale, float* scores) {
  const Tag d;
  const Vector largest =
      Fold(scores, visible, hn::Set(d, scores[0]), [](Vector a, Vector b) HWY_ATTR { return hn::Max(a, b); });
  const Vector factor = hn::Set(d, scale), offset = hn::Mul(hn::MaxOfLanes(d, largest), factor);
  ForEach(
      visible, scores,
      [factor, offset](Vector score) HWY_ATTR {
        const Tag tag;
        const Vector shifted = hn::Sub(hn::Mul(score, factor), offset);
        return hn::IfThenElseZero(hn::Gt(shifted, hn::Set(tag, -104.0f)), hn::Exp(tag, shifted));
      },
      static_cast<const float*>(scores));
  const Vector sum = Fold(scores, visible, hn::Zero(d), [](Vector a, Vector b) HWY_ATTR { return hn::Add(a, b); });
  const Vector normaliser = hn::Set(d, 1.0f / hn::GetLane(hn::SumOfLanes(d, sum)));
  ForEach(
      visible, scores, [normaliser](Vector weight) HWY_ATTR { return hn::Mul(weight, normaliser); },
      static_cast<const float*>(scores));
  std::fill(scores + visible, scores + count, 0.0f);
}

float LogSumExp(const float* x, int64_t count) {
  const Tag d;
  const auto larger = [](Vector a, Vector b) HWY_ATTR { return hn::Max(a, b); };
  const Vector largest = hn::MaxOfLanes(d, Fold(x, count, hn::Set(d, x[0]), larger));
  const auto add = [largest](Vector sum, Vector value) HWY_ATTR {
    const Tag tag;
    return hn::Add(sum, hn::Exp(tag, hn::Max(hn::Sub(value, largest), hn::Set(tag, -104.0f))));
  };
  return hn::GetLane(largest) + std::log(hn::GetLane(hn::SumOfLanes(d, Fold(x, count, hn::Zero(d), add))));
}

void ExpMinus(const float* x, int64_t count, float offset, float* out) {
  const Vector all = hn::Set(Tag(), offset);
  ForEach(
      count, out,
      [all](Vector value) HWY_ATTR {
        const Tag tag;
        return hn::Exp(tag, hn::Max(hn::Sub(value, all), hn::Set(tag, -104.0f)));
      },
      x);
}

void SoftmaxBackward(const float* weights, int64_t count, float scale, float* gradient) {
  const Tag d;
  const Vector mean = hn::Set(d, Dot(weights, gradient, count)), factor = hn::Set(d, scale);
  ForEach(
      count, gradient,
      [mean, factor](Vector weight, Vector g) HWY_ATTR { return hn::Mul(factor, hn::Mul(weight, hn::Sub(g, mean))); },
      weights, static_cast<const float*>(gradient));
}

void StepAdam(const float* gradient, int64_t count, float rate, float root_scale, float* mean, float* variance,
              float* x) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto step = [&](Vector g, Vector& m, Vector& v, Vector& value) HWY_ATTR {
    const auto set = [d](double number) HWY_ATTR { return hn::Set(d, static_cast<float>(number)); };
    m = hn::MulAdd(set(1 - kAdamBeta1), g, hn::Mul(set(kAdamBeta1), m));
    v = hn::MulAdd(hn::Mul(set(1 - kAdamBeta2), g), g, hn::Mul(set(kAdamBeta2), v));
    const Vector root = hn::MulAdd(set(root_scale), hn::Sqrt(v), set(kAdamEpsilon));
    value = hn::Sub(value, hn::Div(hn::Mul(hn::Set(d, rate), m), root));
  };
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    Vector m = hn::LoadU(d, mean + i), v = hn::LoadU(d, variance + i), value = hn::LoadU(d, x + i);
    step(hn::LoadU(d, gradient + i), m, v, value);
    hn::StoreU(m, d, mean + i), hn::StoreU(v, d, variance + i), hn::StoreU(value, d, x + i);
  }
  for (; i < count; ++i) {
    Vector m = hn::Set(d, mean[i]), v = hn::Set(d, variance[i]), value = hn::Set(d, x[i]);
    step(hn::Set(d, gradient[i]), m, v, value);
    mean[i] = hn::GetLane(m), variance[i] = hn::GetLane(v), x[i] = hn::GetLane(value);
  }
}

}  // namespace nabla::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nabla::kernels {
HWY_EXPORT(AddRmsNormBackward);
HWY_EXPORT(RotateBack);
HWY_EXPORT(SiluMultiplyBackward);
HWY_EXPORT(Softmax);
HWY_EXPORT(LogSumExp);
HWY_EXPORT(ExpMinus);
HWY_EXPORT(SoftmaxBackward);
HWY_EXPORT(StepAdam);

void AddRmsNormBackward(const float* x, const float* weight, const float* out_gradient, int64_t count, float epsilon,
                        float* gradient) {
  HWY_DYNAMIC_DISPATCH(AddRmsNormBackward)(x, weight, out_gradient, count, epsilon, gradient);
}

void RotateBack(const float* cosines, const float* sines, int64_t count, float* x) {
  HWY_DYNAMIC_DISPATCH(RotateBack)(cosines, sines, count, x);
}

void SiluMultiplyBackward(const float* gate, const float* up, const float* out_gradient, int64_t count,
                          float* gate_gradient, float* up_gradient) {
  HWY_DYNAMIC_DISPATCH(SiluMultiplyBackward)(gate, up, out_gradient, count, gate_gradient, up_gradient);
}

void Softmax(int64_t visible, int64_t count, float scale, float* scores) {
  HWY_DYNAMIC_DISPATCH(Softmax)(visible, count, scale, scores);
}

float LogSumExp(const float* x, int64_t count) { return HWY_DYNAMIC_DISPATCH(LogSumExp)(x, count); }

void ExpMinus(const float* x, int64_t count, float offset, float* out) {
  HWY_DYNAMIC_DISPATCH(ExpMinus)(x, count, offset, out);
}

void SoftmaxBackward(const float* weights, int64_t count, float scale, float* gradient) {
  HWY_DYNAMIC_DISPATCH(SoftmaxBackward)(weights, count, scale, gradient);
}

void StepAdam(const float* gradient, int64_t count, float rate, float root_scale, float* mean, float* variance,
              float* x) {
  HWY_DYNAMIC_DISPATCH(StepAdam)(gradient, count, rate, root_scale, mean, variance, x);
}

}  // namespace nabla::kernels
#endif
