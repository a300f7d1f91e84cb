#include "engine/kernels/matrix_product.h"

// Arrays of vectors, as below, need vectors of a known size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/matrix_product.cc"
#include "hwy/foreach_target.h"
// Behind foreach_target.h.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace nabla::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::CappedTag<float, kPad>;
using Vector = hn::Vec<Tag>;

// C's rows [i, i + kRows), kVectors vectors of columns from j on.
template <bool kAdd, int kRows, int kVectors>
HWY_INLINE void ProductTile(const MatrixProduct& p, int64_t i, int64_t j) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  Vector sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = kAdd ? hn::LoadU(d, p.c.at + (i + r) * p.c.row + j + v * lanes) : hn::Zero(d);
    }
  }
  const float* a = p.a.at + i * p.a.row;
  const float* b = p.b.at + j;
  for (int64_t k = 0; k < p.k; ++k) {
    Vector column[kVectors];
    for (int v = 0; v < kVectors; ++v) column[v] = hn::LoadU(d, b + v * lanes);
    for (int r = 0; r < kRows; ++r) {
      const Vector number = hn::Set(d, a[r * p.a.row]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(number, column[v], sums[r][v]);
    }
    a += p.a.column, b += p.b.row;
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[r][v], d, p.c.at + (i + r) * p.c.row + j + v * lanes);
  }
}

// All rows of some columns, whose part of B stays in the first-level cache.
template <bool kAdd, int kVectors>
HWY_INLINE void ProductColumns(const MatrixProduct& p, int64_t j) {
  int64_t i = 0;
  for (; i + 6 <= p.m; i += 6) ProductTile<kAdd, 6, kVectors>(p, i, j);
  for (; i + 2 <= p.m; i += 2) ProductTile<kAdd, 2, kVectors>(p, i, j);
  if (i < p.m) ProductTile<kAdd, 1, kVectors>(p, i, j);
}

template <bool kAdd>
HWY_INLINE void Product(const MatrixProduct& p) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr int kVectors = hn::MaxLanes(Tag()) >= 16 ? 4 : 2;  // what 32 registers hold, or 16
  int64_t j = 0;
  for (; j + kVectors * lanes <= p.n; j += kVectors * lanes) ProductColumns<kAdd, kVectors>(p, j);
  for (; j < p.n; j += lanes) ProductColumns<kAdd, 1>(p, j);
}

void SetProduct(const MatrixProduct& product) { Product<false>(product); }
void AddProduct(const MatrixProduct& product) { Product<true>(product); }

}  // namespace nabla::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nabla::kernels {

HWY_EXPORT(SetProduct);
HWY_EXPORT(AddProduct);

void Multiply(const MatrixProduct& product) { HWY_DYNAMIC_DISPATCH(SetProduct)(product); }
void MultiplyAdd(const MatrixProduct& product) { HWY_DYNAMIC_DISPATCH(AddProduct)(product); }

}  // namespace nabla::kernels
#endif
