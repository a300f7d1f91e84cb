#include "engine/kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/elementwise.cc"
#include "hwy/foreach_target.h"
// Behind foreach_target.h.
#include "engine/kernels/row-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace nabla::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void Widen(NumberType type, const void* from, int64_t count, float* to) {
  const auto same = [](hn::Vec<Tag> x) HWY_ATTR { return x; };
  if (type == NumberType::kFloat32) {
    std::memcpy(to, from, count * sizeof(float));
  } else {
    ForEach(count, to, same, static_cast<const hwy::bfloat16_t*>(from));
  }
}

// To the nearest, ties to even.
void NarrowToBfloat16(const float* from, int64_t count, uint16_t* to) {
  const Tag d;
  const hn::RebindToUnsigned<Tag> bits_tag;
  const hn::Rebind<uint16_t, Tag> half_tag;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto x = hn::LoadU(d, from + i);
    const auto bits = hn::BitCast(bits_tag, x);
    const auto last_bit = hn::And(hn::ShiftRight<16>(bits), hn::Set(bits_tag, 1));
    const auto nearest = hn::ShiftRight<16>(hn::Add(hn::Add(bits, last_bit), hn::Set(bits_tag, 0x7fff)));
    const auto not_a_number = hn::Or(hn::ShiftRight<16>(bits), hn::Set(bits_tag, 0x40));
    const auto chosen = hn::IfThenElse(hn::RebindMask(bits_tag, hn::IsNaN(x)), not_a_number, nearest);
    hn::StoreU(hn::DemoteTo(half_tag, hn::BitCast(hn::RebindToSigned<Tag>(), chosen)), half_tag, to + i);
  }
  for (; i < count; ++i) to[i] = RoundToBfloat16(from[i]);
}

void Add(const float* from, int64_t count, float* to) {
  ForEach(
      count, to, [](hn::Vec<Tag> x, hn::Vec<Tag> y) HWY_ATTR { return hn::Add(x, y); }, from, to);
}

void RmsNorm(const float* x, const float* weight, int64_t count, float epsilon, float* out) {
  const Tag d;
  const auto squares = Fold(x, count, hn::Zero(d), [](hn::Vec<Tag> sum, hn::Vec<Tag> value) HWY_ATTR {
    return hn::MulAdd(value, value, sum);
  });
  const float mean = hn::GetLane(hn::SumOfLanes(d, squares)) / static_cast<float>(count);
  const auto scale = hn::Set(d, 1.0f / std::sqrt(mean + epsilon));
  ForEach(
      count, out,
      [scale](hn::Vec<Tag> value, hn::Vec<Tag> factor) HWY_ATTR { return hn::Mul(factor, hn::Mul(value, scale)); }, x,
      weight);
}

void Rotate(const float* cosines, const float* sines, int64_t count, float* x) {
  const int64_t half = count / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float low = x[i], high = x[i + half];
    x[i] = low * cosines[i] - high * sines[i];
    x[i + half] = high * cosines[i + half] + low * sines[i + half];
  }
}

void SiluMultiply(const float* up, int64_t count, float* gate) {
  ForEach(
      count, gate,
      [](hn::Vec<Tag> x, hn::Vec<Tag> factor) HWY_ATTR {
        const Tag d;
        const auto one = hn::Set(d, 1.0f);
        // exp overflows beyond 88; silu is 0 there to float32's last digit.
        const auto bounded = hn::Min(hn::Neg(x), hn::Set(d, 88.0f));
        return hn::Mul(hn::Div(x, hn::Add(one, hn::Exp(d, bounded))), factor);
      },
      gate, up);
}

int64_t ArgMax(const float* x, int64_t count) {
  const Tag d;
  const auto largest =
      Fold(x, count, hn::Set(d, x[0]), [](hn::Vec<Tag> a, hn::Vec<Tag> b) HWY_ATTR { return hn::Max(a, b); });
  const float top = hn::GetLane(hn::MaxOfLanes(d, largest));
  int64_t i = 0;
  while (x[i] != top && i + 1 < count) ++i;
  return i;
}

RowStats StatsOf(const float* logits, int64_t count) {
  const Tag d;
  RowStats stats;
  stats.argmax = static_cast<int32_t>(ArgMax(logits, count));
  const auto offset = hn::Set(d, logits[stats.argmax]);
  auto sum = hn::Zero(d), weighted = hn::Zero(d);  // of exp(x − top), and of that times x − top
  const auto add = [&](hn::Vec<Tag> x, hn::Mask<Tag> wanted) HWY_ATTR {
    const auto shifted = hn::Max(hn::Sub(x, offset), hn::Set(d, -104.0f));
    const auto weight = hn::IfThenElseZero(wanted, hn::Exp(d, shifted));
    sum = hn::Add(sum, weight);
    weighted = hn::MulAdd(weight, shifted, weighted);
  };
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) add(hn::LoadU(d, logits + i), hn::FirstN(d, lanes));
  if (i < count) add(LoadWideFirst(d, logits + i, count - i), hn::FirstN(d, static_cast<size_t>(count - i)));
  const float total = hn::GetLane(hn::SumOfLanes(d, sum));
  stats.confidence = 1.0f / total;
  stats.entropy = std::log(total) - hn::GetLane(hn::SumOfLanes(d, weighted)) / total;
  return stats;
}

}  // namespace nabla::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nabla::kernels {
HWY_EXPORT(Widen);
HWY_EXPORT(NarrowToBfloat16);
HWY_EXPORT(Add);
HWY_EXPORT(RmsNorm);
HWY_EXPORT(Rotate);
HWY_EXPORT(SiluMultiply);
HWY_EXPORT(ArgMax);
HWY_EXPORT(StatsOf);

void Widen(NumberType type, const void* from, int64_t count, float* to) {
  HWY_DYNAMIC_DISPATCH(Widen)(type, from, count, to);
}

void Narrow(NumberType type, const float* from, int64_t count, void* to) {
  if (type == NumberType::kFloat32) {
    std::memcpy(to, from, count * sizeof(float));
  } else {
    HWY_DYNAMIC_DISPATCH(NarrowToBfloat16)(from, count, static_cast<uint16_t*>(to));
  }
}

void Add(const float* from, int64_t count, float* to) { HWY_DYNAMIC_DISPATCH(Add)(from, count, to); }

void RmsNorm(const float* x, const float* weight, int64_t count, float epsilon, float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x, weight, count, epsilon, out);
}

void Rotate(const float* cosines, const float* sines, int64_t count, float* x) {
  HWY_DYNAMIC_DISPATCH(Rotate)(cosines, sines, count, x);
}

void SiluMultiply(const float* up, int64_t count, float* gate) { HWY_DYNAMIC_DISPATCH(SiluMultiply)(up, count, gate); }

int64_t ArgMax(const float* x, int64_t count) { return HWY_DYNAMIC_DISPATCH(ArgMax)(x, count); }

RowStats StatsOf(const float* logits, int64_t count) { return HWY_DYNAMIC_DISPATCH(StatsOf)(logits, count); }

}  // namespace nabla::kernels
#endif
