// Loops over a row of float32 numbers. Included once for every target of Highway's.
#if defined(NABLA_ENGINE_KERNELS_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NABLA_ENGINE_KERNELS_ROW_INL_H_
#undef NABLA_ENGINE_KERNELS_ROW_INL_H_
#else
#define NABLA_ENGINE_KERNELS_ROW_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "engine/kernels/load-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace nabla::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;

// Stores the first `count` lanes.
HWY_INLINE void StoreFirst(hn::Vec<Tag> vector, float* to, int64_t count) {
  HWY_ALIGN float padded[hn::MaxLanes(Tag())];
  hn::Store(vector, Tag(), padded);
  std::memcpy(to, padded, count * sizeof(float));
}

// to[i] = function(operands[i]…), a vector at a time; the end goes through the same operations.
template <typename Function, typename... Operand>
HWY_INLINE void ForEach(int64_t count, float* to, const Function& function, const Operand*... operands) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(function(LoadWide(d, operands + i)...), d, to + i);
  if (i < count) StoreFirst(function(LoadWideFirst(d, operands + i, count - i)...), to + i, count - i);
}

// Folds all of x, the end padded with `padding`.
template <typename Function>
HWY_INLINE hn::Vec<Tag> Fold(const float* x, int64_t count, hn::Vec<Tag> start, const Function& function) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) start = function(start, hn::LoadU(d, x + i));
  if (i < count) {
    HWY_ALIGN float padded[hn::MaxLanes(Tag())];
    for (int64_t lane = 0; lane < lanes; ++lane) padded[lane] = i + lane < count ? x[i + lane] : x[0];
    const auto mask = hn::FirstN(d, static_cast<size_t>(count - i));
    start = hn::IfThenElse(mask, function(start, hn::Load(d, padded)), start);
  }
  return start;
}

}  // namespace nabla::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard by target
