#include "engine/kernels/attention_rows.h"

#include <algorithm>
#include <cmath>

#include "engine/kernels/backward.h"
#include "engine/kernels/elementwise.h"

// Arrays of vectors, as below, need vectors of a known size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/attention_rows.cc"
#include "hwy/foreach_target.h"
// Behind foreach_target.h.
#include "hwy/highway.h"

namespace nabla::kernels {
#ifndef NABLA_ENGINE_KERNELS_ATTENTION_ROWS_CC_
#define NABLA_ENGINE_KERNELS_ATTENTION_ROWS_CC_
struct Matrix {
  float* at;
  int64_t row;         // from a row to the next
  int64_t column = 1;  // of A alone: from a column to the next
};

// Of A [m, k], B [k, n] and C [m, n]; n is a multiple of kPad.
struct MatrixProduct {
  Matrix a, b, c;
  int64_t m, n, k;
};

constexpr int64_t kPad = 16;  // numbers: a vector's, at most
#endif
}  // namespace nabla::kernels

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
namespace {

HWY_EXPORT(SetProduct);
HWY_EXPORT(AddProduct);

// C = A B.
void Multiply(const MatrixProduct& product) { HWY_DYNAMIC_DISPATCH(SetProduct)(product); }
// C += A B.
void MultiplyAdd(const MatrixProduct& product) { HWY_DYNAMIC_DISPATCH(AddProduct)(product); }

// Rows of all heads together that are taken at once: what lies ahead of the last of them is computed and dropped.
constexpr int64_t kQueriesTogether = 48;

float ScaleOf(const AttentionRows& x) { return 1.0f / std::sqrt(static_cast<float>(x.size)); }

int64_t Padded(int64_t count) { return (count + kPad - 1) / kPad * kPad; }

const void* At(NumberType type, const void* numbers, int64_t i) {
  return static_cast<const char*>(numbers) + i * (type == NumberType::kFloat32 ? 4 : 2);
}

// Rows of `size` numbers of any type to rows of Padded(size), of which the rest becomes 0.
void Take(NumberType type, const void* from, int64_t rows, int64_t size, float* to) {
  const int64_t to_row = Padded(size);
  for (int64_t i = 0; i < rows; ++i) {
    Widen(type, At(type, from, i * size), size, to + i * to_row);
    std::fill(to + i * to_row + size, to + (i + 1) * to_row, 0.0f);
  }
}

// Heads of rows [first, first + count) as rows of Padded(size).
void TakeHeads(const AttentionRows& x, NumberType type, const void* heads, int64_t first, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) {
    Take(type, At(type, heads, (first + i) * x.stride), x.shared, x.size, to + i * x.shared * Padded(x.size));
  }
}

// The other way round, in float32.
void PutHeads(const AttentionRows& x, const float* from, int64_t first, int64_t count, float* heads) {
  for (int64_t i = 0; i < count * x.shared; ++i) {
    float* const to = heads + (first + i / x.shared) * x.stride + i % x.shared * x.size;
    std::copy_n(from + i * Padded(x.size), x.size, to);
  }
}

// to [columns, to_row] = from [rows, columns], transposed; columns of `to` behind the last become 0 up to a multiple of
// kPad.
void Transpose(const float* from, int64_t rows, int64_t columns, int64_t to_row, float* to) {
  for (int64_t i = 0; i < rows; i += kPad) {  // a cache line of `to` at a time
    const int64_t count = std::min(kPad, rows - i);
    for (int64_t j = 0; j < columns; ++j) {
      float* const line = to + j * to_row + i;
      for (int64_t r = 0; r < count; ++r) line[r] = from[(i + r) * columns + j];
      std::fill(line + count, line + kPad, 0.0f);
    }
  }
}

// Calls body(first, count, queries, keys): so many rows from `first` on, their queries of all heads, and the keys that
// the last of them sees.
template <typename Body>
void ForBlocks(const AttentionRows& x, const Body& body) {
  const int64_t together = std::max<int64_t>(1, kQueriesTogether / x.shared);
  for (int64_t first = 0; first < x.rows; first += together) {
    const int64_t count = std::min(together, x.rows - first);
    body(first, count, count * x.shared, x.before + first + count);
  }
}

}  // namespace

float* AttentionOfRows::Buffer::Resize(int64_t count) {
  if (count > count_) {
    numbers_ = hwy::AllocateAligned<float>(count);
    count_ = count;
  }
  return numbers_.get();
}

// Keys and values as both passes want them: keys across, [size, columns], and values as they are.
void AttentionOfRows::TakeAll(const AttentionRows& x) {
  const int64_t keys = x.before + x.rows, row = Padded(x.size), columns = Padded(keys);
  Take(x.type, x.keys, keys, x.size, keys_.Resize(keys * row));
  Take(x.type, x.values, keys, x.size, values_.Resize(keys * row));
  Transpose(keys_.get(), keys, row, columns, keys_across_.Resize(row * columns));
}

// Attention weights [queries, Padded(before + rows)] of a block of rows, as far as the last of them sees.
float* AttentionOfRows::ComputeWeights(const AttentionRows& x, int64_t first, int64_t count) {
  const int64_t row = Padded(x.size), columns = Padded(x.before + x.rows), queries = count * x.shared;
  const int64_t seen = Padded(x.before + first + count);
  float *const query = queries_.Resize(queries * row), *const weights = weights_.Resize(queries * columns);
  TakeHeads(x, x.type, x.queries, first, count, query);
  Multiply({{query, row}, {keys_across_.get(), columns}, {weights, columns}, /*m=*/queries, /*n=*/seen, /*k=*/row});
  for (int64_t i = 0; i < queries; ++i) {
    Softmax(x.before + first + i / x.shared + 1, seen, ScaleOf(x), weights + i * columns);
  }
  return weights;
}

void AttentionOfRows::Forward(const AttentionRows& x, float* out) {
  TakeAll(x);
  const int64_t row = Padded(x.size), columns = Padded(x.before + x.rows);
  ForBlocks(x, [&](int64_t first, int64_t count, int64_t queries, int64_t keys) {
    float *const weights = ComputeWeights(x, first, count), *const mixed = result_.Resize(queries * row);
    Multiply({{weights, columns}, {values_.get(), row}, {mixed, row}, /*m=*/queries, /*n=*/row, /*k=*/keys});
    PutHeads(x, mixed, first, count, out);
  });
}

void AttentionOfRows::Backward(const AttentionRows& x, const float* out_gradient, float* query_gradient,
                               int64_t first_key, float* key_gradient, float* value_gradient) {
  TakeAll(x);
  const int64_t all = x.before + x.rows, own = all - first_key, row = Padded(x.size), columns = Padded(all);
  Transpose(values_.get(), all, row, columns, values_across_.Resize(row * columns));
  float *const at_keys = at_keys_.Resize(own * row), *const at_values = at_values_.Resize(own * row);
  std::fill_n(at_keys, own * row, 0.0f);
  std::fill_n(at_values, own * row, 0.0f);
  ForBlocks(x, [&](int64_t first, int64_t count, int64_t queries, int64_t keys) {
    const int64_t seen = Padded(keys);
    float* const weights = ComputeWeights(x, first, count);
    float* const at_out = out_gradient_.Resize(queries * row);
    TakeHeads(x, NumberType::kFloat32, out_gradient, first, count, at_out);
    float* const at_scores = at_scores_.Resize(queries * columns);
    Multiply({{at_out, row}, {values_across_.get(), columns}, {at_scores, columns}, queries, seen, row});
    for (int64_t i = 0; i < queries; ++i) {
      SoftmaxBackward(weights + i * columns, seen, ScaleOf(x), at_scores + i * columns);
    }
    float* const at_queries = result_.Resize(queries * row);
    Multiply({{at_scores, columns}, {keys_.get(), row}, {at_queries, row}, queries, row, keys});
    PutHeads(x, at_queries, first, count, query_gradient);
    const auto transposed = [&](float* by_query) { return Matrix{by_query + first_key, 1, columns}; };
    MultiplyAdd({transposed(at_scores), {queries_.get(), row}, {at_keys, row}, keys - first_key, row, queries});
    MultiplyAdd({transposed(weights), {at_out, row}, {at_values, row}, keys - first_key, row, queries});
  });
  for (int64_t i = 0; i < own; ++i) {
    std::copy_n(at_keys + i * row, x.size, key_gradient + i * x.size);
    std::copy_n(at_values + i * row, x.size, value_gradient + i * x.size);
  }
}

}  // namespace nabla::kernels
#endif
