// Vectors of float32 out of float32, bfloat16 or int8 numbers. Included once for every target of Highway's.
#if defined(NABLA_ENGINE_KERNELS_LOAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NABLA_ENGINE_KERNELS_LOAD_INL_H_
#undef NABLA_ENGINE_KERNELS_LOAD_INL_H_
#else
#define NABLA_ENGINE_KERNELS_LOAD_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace nabla::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> LoadWide(D d, const float* from) {
  return hn::LoadU(d, from);
}

template <class D>
HWY_INLINE hn::Vec<D> LoadWide(D d, const hwy::bfloat16_t* from) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<hwy::bfloat16_t, D>(), from));
}

template <class D>
HWY_INLINE hn::Vec<D> LoadWide(D d, const int8_t* from) {
  return hn::ConvertTo(d, hn::PromoteTo(hn::RebindToSigned<D>(), hn::LoadU(hn::Rebind<int8_t, D>(), from)));
}

// The first `count` numbers, zeros behind them; reads no further.
template <class D, typename Number>
HWY_INLINE hn::Vec<D> LoadWideFirst(D d, const Number* from, int64_t count) {
  HWY_ALIGN Number padded[hn::MaxLanes(D())] = {};
  for (int64_t i = 0; i < count; ++i) padded[i] = from[i];
  return LoadWide(d, padded);
}

}  // namespace nabla::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard by target
