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
// A [m, k] with any strides, B [k, n] and C [m, n] with rows without gaps in between their numbers; n a multiple of
// kPad.
struct MatrixProduct {
  const float* a;
  int64_t a_row, a_column;  // from a row, and a column, to the next
  const float* b;
  int64_t b_row;
  float* c;
  int64_t c_row;
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
      sums[r][v] = kAdd ? hn::LoadU(d, p.c + (i + r) * p.c_row + j + v * lanes) : hn::Zero(d);
    }
  }
  const float* a = p.a + i * p.a_row;
  const float* b = p.b + j;
  for (int64_t k = 0; k < p.k; ++k) {
    Vector column[kVectors];
    for (int v = 0; v < kVectors; ++v) column[v] = hn::LoadU(d, b + v * lanes);
    for (int r = 0; r < kRows; ++r) {
      const Vector number = hn::Set(d, a[r * p.a_row]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(number, column[v], sums[r][v]);
    }
    a += p.a_column, b += p.b_row;
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[r][v], d, p.c + (i + r) * p.c_row + j + v * lanes);
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

// C = A B.
void Multiply(const MatrixProduct& product) { Product<false>(product); }

// C += A B.
void AddProduct(const MatrixProduct& product) { Product<true>(product); }

}  // namespace nabla::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nabla::kernels {
namespace {

HWY_EXPORT(Multiply);
HWY_EXPORT(AddProduct);

// Rows of all heads together that are taken at once: what lies ahead of the last of them is computed and dropped.
constexpr int64_t kQueriesTogether = 48;

float ScaleOf(const AttentionRows& x) { return 1.0f / std::sqrt(static_cast<float>(x.size)); }

int64_t Padded(int64_t count) { return (count + kPad - 1) / kPad * kPad; }

// Rows of `size` numbers, `from_row` apart and of any type, to rows of Padded(size), of which the rest becomes 0.
void Take(NumberType type, const void* from, int64_t rows, int64_t size, int64_t from_row, float* to) {
  const int64_t to_row = Padded(size), bytes = type == NumberType::kFloat32 ? 4 : 2;
  for (int64_t i = 0; i < rows; ++i) {
    Widen(type, static_cast<const char*>(from) + i * from_row * bytes, size, to + i * to_row);
    std::fill(to + i * to_row + size, to + (i + 1) * to_row, 0.0f);
  }
}

// Heads of rows [first, first + count) as rows of Padded(size).
void TakeHeads(const AttentionRows& x, NumberType type, const void* heads, int64_t first, int64_t count, float* to) {
  const int64_t bytes = type == NumberType::kFloat32 ? 4 : 2;
  for (int64_t i = first; i < first + count; ++i, to += x.shared * Padded(x.size)) {
    Take(type, static_cast<const char*>(heads) + i * x.stride * bytes, x.shared, x.size, x.size, to);
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

float* AttentionOfRows::Buffer::Of(int64_t count) {
  if (count > count_) {
    numbers_ = hwy::AllocateAligned<float>(count);
    count_ = count;
  }
  return numbers_.get();
}

// Keys and values as both passes want them: keys across, [size, columns], and values as they are.
void AttentionOfRows::TakeAll(const AttentionRows& x) {
  const int64_t keys = x.before + x.rows, row = Padded(x.size);
  Take(x.type, x.keys, keys, x.size, x.size, keys_.Of(keys * row));
  Take(x.type, x.values, keys, x.size, x.size, values_.Of(keys * row));
  Transpose(keys_.Of(0), keys, row, Padded(keys), keys_across_.Of(row * Padded(keys)));
}

// The attention weights [queries, Padded(keys)], a row Padded(x.before + x.rows) long, of a block of rows.
void AttentionOfRows::ComputeWeights(const AttentionRows& x, int64_t first, int64_t count, float* weights) {
  const int64_t row = Padded(x.size), columns = Padded(x.before + x.rows), queries = count * x.shared;
  const int64_t seen = Padded(x.before + first + count);
  TakeHeads(x, x.type, x.queries, first, count, queries_.Of(queries * row));
  HWY_DYNAMIC_DISPATCH(Multiply)
  ({.a = queries_.Of(0),
    .a_row = row,
    .a_column = 1,
    .b = keys_across_.Of(0),
    .b_row = columns,
    .c = weights,
    .c_row = columns,
    .m = queries,
    .n = seen,
    .k = row});
  for (int64_t i = 0; i < queries; ++i) {
    Softmax(x.before + first + i / x.shared + 1, seen, ScaleOf(x), weights + i * columns);
  }
}

void AttentionOfRows::Forward(const AttentionRows& x, float* out) {
  TakeAll(x);
  const int64_t row = Padded(x.size), columns = Padded(x.before + x.rows);
  ForBlocks(x, [&](int64_t first, int64_t count, int64_t queries, int64_t keys) {
    float* const weights = weights_.Of(queries * columns);
    ComputeWeights(x, first, count, weights);
    float* const mixed = result_.Of(queries * row);
    HWY_DYNAMIC_DISPATCH(Multiply)
    ({.a = weights,
      .a_row = columns,
      .a_column = 1,
      .b = values_.Of(0),
      .b_row = row,
      .c = mixed,
      .c_row = row,
      .m = queries,
      .n = row,
      .k = keys});
    PutHeads(x, mixed, first, count, out);
  });
}

void AttentionOfRows::Backward(const AttentionRows& x, const float* out_gradient, float* query_gradient,
                               int64_t first_key, float* key_gradient, float* value_gradient) {
  TakeAll(x);
  const int64_t all = x.before + x.rows, own = all - first_key, row = Padded(x.size), columns = Padded(all);
  Transpose(values_.Of(0), all, row, columns, values_across_.Of(row * columns));
  float *const at_keys = at_keys_.Of(own * row), *const at_values = at_values_.Of(own * row);
  std::fill_n(at_keys, own * row, 0.0f);
  std::fill_n(at_values, own * row, 0.0f);
  ForBlocks(x, [&](int64_t first, int64_t count, int64_t queries, int64_t keys) {
    const int64_t seen = Padded(keys);
    float* const weights = weights_.Of(queries * columns);
    ComputeWeights(x, first, count, weights);
    float* const at_out = out_gradient_.Of(queries * row);
    TakeHeads(x, NumberType::kFloat32, out_gradient, first, count, at_out);
    float* const at_scores = at_scores_.Of(queries * columns);
    HWY_DYNAMIC_DISPATCH(Multiply)
    ({.a = at_out,
      .a_row = row,
      .a_column = 1,
      .b = values_across_.Of(0),
      .b_row = columns,
      .c = at_scores,
      .c_row = columns,
      .m = queries,
      .n = seen,
      .k = row});
    for (int64_t i = 0; i < queries; ++i) {
      SoftmaxBackward(weights + i * columns, seen, ScaleOf(x), at_scores + i * columns);
    }
    float* const at_queries = result_.Of(queries * row);
    HWY_DYNAMIC_DISPATCH(Multiply)
    ({.a = at_scores,
      .a_row = columns,
      .a_column = 1,
      .b = keys_.Of(0),
      .b_row = row,
      .c = at_queries,
      .c_row = row,
      .m = queries,
      .n = row,
      .k = keys});
    PutHeads(x, at_queries, first, count, query_gradient);
    const auto add_to_keys = [&](const float* by_query, const float* of_queries, float* to) {
      HWY_DYNAMIC_DISPATCH(AddProduct)
      ({.a = by_query + first_key,
        .a_row = 1,
        .a_column = columns,
        .b = of_queries,
        .b_row = row,
        .c = to,
        .c_row = row,
        .m = keys - first_key,
        .n = row,
        .k = queries});
    };
    add_to_keys(at_scores, queries_.Of(0), at_keys);
    add_to_keys(weights, at_out, at_values);
  });
  for (int64_t i = 0; i < own; ++i) {
    std::copy_n(at_keys + i * row, x.size, key_gradient + i * x.size);
    std::copy_n(at_values + i * row, x.size, value_gradient + i * x.size);
  }
}

}  // namespace nabla::kernels
#endif
