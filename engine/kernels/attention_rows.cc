#include "engine/kernels/attention_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/kernels/backward.h"
#include "engine/kernels/elementwise.h"
#include "engine/kernels/linear_dot.h"
#include "engine/kernels/matrix_product.h"
#include "engine/kernels/matrix_product_dot.h"

namespace nabla::kernels {
namespace {

// Rows of all heads together that are taken at once: what lies ahead of the last of them is computed and dropped.
constexpr int64_t kQueriesTogether = 48;

float ScaleOf(const AttentionRows& x) { return 1.0f / std::sqrt(static_cast<float>(x.size)); }

int64_t Padded(int64_t count) { return (count + kPad - 1) / kPad * kPad; }

const void* At(NumberType type, const void* numbers, int64_t i) {
  return static_cast<const char*>(numbers) + i * (type == NumberType::kFloat32 ? 4 : 2);
}

// With tiles, float32 products are as fast.
bool PairsPay(const AttentionRows& x) {
  return x.type == NumberType::kBfloat16 && HasPairProducts() && !MultipliesByTiles(x.type, kPad);
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

// The other way round than Operands::TakeHeads, in float32.
void PutHeads(const AttentionRows& x, const float* from, int64_t first, int64_t count, float* heads) {
  for (int64_t i = 0; i < count * x.shared; ++i) {
    float* const to = heads + (first + i / x.shared) * x.stride + i % x.shared * x.size;
    std::copy_n(from + i * Padded(x.size), x.size, to);
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

// Makes operands of products and multiplies them: float32 numbers, or where `pairs` bfloat16 numbers two by two
// (matrix_product_dot.h). An operand has k along its rows, [rows, Elements(columns)], or down its columns,
// [Elements(rows), columns]; in float32 these are the same. Columns are multiples of kPad.
class AttentionOfRows::Operands {
 public:
  explicit Operands(bool pairs) : pairs_(pairs) {}

  int64_t Elements(int64_t k) const { return pairs_ ? (k + 1) / 2 : k; }

  void Multiply(const MatrixProduct& product) const { pairs_ ? MultiplyPairs(product) : kernels::Multiply(product); }
  void MultiplyAdd(const MatrixProduct& product) const {
    pairs_ ? MultiplyAddPairs(product) : kernels::MultiplyAdd(product);
  }

  // Rows of `size` numbers of any type, along; the rest of Padded(size) becomes 0.
  void Take(NumberType type, const void* from, int64_t rows, int64_t size, float* to) const {
    const int64_t to_row = Padded(size);
    for (int64_t i = 0; i < rows; ++i) {
      const void* const row = At(type, from, i * size);
      if (!pairs_) {
        Widen(type, row, size, to + i * to_row);
        std::fill(to + i * to_row + size, to + (i + 1) * to_row, 0.0f);
        continue;
      }
      auto* const narrow = reinterpret_cast<uint16_t*>(to) + i * to_row;
      if (type == NumberType::kFloat32) {
        NarrowForPairs(static_cast<const float*>(row), size, narrow);
      } else {
        std::memcpy(narrow, row, size * sizeof(uint16_t));
      }
      std::memset(narrow + size, 0, (to_row - size) * sizeof(uint16_t));
    }
  }

  // Heads of rows [first, first + count), along, one below another.
  void TakeHeads(const AttentionRows& x, NumberType type, const void* heads, int64_t first, int64_t count,
                 float* to) const {
    const int64_t to_row = x.shared * Elements(Padded(x.size));
    for (int64_t i = 0; i < count; ++i) {
      Take(type, At(type, heads, (first + i) * x.stride), x.shared, x.size, to + i * to_row);
    }
  }

  // The first `used` columns of a product, along.
  const float* Along(const float* product, int64_t rows, int64_t columns, int64_t used, Buffer& buffer) const {
    if (!pairs_) return product;
    float* const to = buffer.Resize(rows * columns / 2);
    for (int64_t i = 0; i < rows; ++i) {
      NarrowForPairs(product + i * columns, used, reinterpret_cast<uint16_t*>(to) + i * columns);
    }
    return to;
  }

  // The first `used` columns of what is there along, down.
  const float* Down(const float* along, int64_t rows, int64_t columns, int64_t used, Buffer& buffer) const {
    if (!pairs_) return along;
    float* const to = buffer.Resize(Elements(rows) * columns);
    const auto* const narrow = reinterpret_cast<const uint16_t*>(along);
    for (int64_t i = 0; i < rows; i += 2) {
      const uint16_t* const row = narrow + i * columns;
      PairRows(row, i + 1 < rows ? row + columns : nullptr, used, to + i / 2 * columns);
    }
    return to;
  }

 private:
  const bool pairs_;
};

// Keys and values, along and across: [Elements(size), columns].
void AttentionOfRows::TakeAll(const AttentionRows& x, const Operands& operands, bool values_across) {
  const int64_t keys = x.before + x.rows, row = Padded(x.size), columns = Padded(keys), across = operands.Elements(row);
  operands.Take(x.type, x.keys, keys, x.size, keys_.Resize(keys * row));
  operands.Take(x.type, x.values, keys, x.size, values_.Resize(keys * row));
  Transpose(keys_.get(), keys, across, columns, keys_across_.Resize(row * columns));
  if (values_across) Transpose(values_.get(), keys, across, columns, values_across_.Resize(row * columns));
}

// Attention weights [queries, Padded(before + rows)] of a block of rows, as far as the last of them sees.
float* AttentionOfRows::ComputeWeights(const AttentionRows& x, const Operands& operands, int64_t first, int64_t count) {
  const int64_t row = Padded(x.size), columns = Padded(x.before + x.rows), queries = count * x.shared;
  const int64_t seen = Padded(x.before + first + count), k = operands.Elements(row);
  float *const query = queries_.Resize(queries * row), *const weights = weights_.Resize(queries * columns);
  operands.TakeHeads(x, x.type, x.queries, first, count, query);
  operands.Multiply({{query, k}, {keys_across_.get(), columns}, {weights, columns}, /*m=*/queries, /*n=*/seen, k});
  for (int64_t i = 0; i < queries; ++i) {
    Softmax(x.before + first + i / x.shared + 1, seen, ScaleOf(x), weights + i * columns);
  }
  return weights;
}

void AttentionOfRows::Forward(const AttentionRows& x, float* out) {
  const Operands operands(PairsPay(x));
  TakeAll(x, operands, /*values_across=*/false);
  const int64_t all = x.before + x.rows, row = Padded(x.size), columns = Padded(all);
  const float* const values = operands.Down(values_.get(), all, row, row, values_down_);
  ForBlocks(x, [&](int64_t first, int64_t count, int64_t queries, int64_t keys) {
    const float* const weights =
        operands.Along(ComputeWeights(x, operands, first, count), queries, columns, Padded(keys), weights_along_);
    float* const mixed = result_.Resize(queries * row);
    operands.Multiply({{weights, operands.Elements(columns)},
                       {values, row},
                       {mixed, row},
                       /*m=*/queries,
                       /*n=*/row,
                       /*k=*/operands.Elements(keys)});
    PutHeads(x, mixed, first, count, out);
  });
}

void AttentionOfRows::Backward(const AttentionRows& x, const float* out_gradient, float* query_gradient,
                               int64_t first_key, float* key_gradient, float* value_gradient) {
  const Operands operands(PairsPay(x));
  TakeAll(x, operands, /*values_across=*/true);
  const int64_t all = x.before + x.rows, own = all - first_key, row = Padded(x.size), columns = Padded(all);
  const float* const all_keys = operands.Down(keys_.get(), all, row, row, keys_down_);
  float *const at_keys = at_keys_.Resize(own * row), *const at_values = at_values_.Resize(own * row);
  std::fill_n(at_keys, own * row, 0.0f);
  std::fill_n(at_values, own * row, 0.0f);
  ForBlocks(x, [&](int64_t first, int64_t count, int64_t queries, int64_t keys) {
    const int64_t seen = Padded(keys), along = operands.Elements(columns);
    float* const weights = ComputeWeights(x, operands, first, count);
    float* const at_out = out_gradient_.Resize(queries * row);
    operands.TakeHeads(x, NumberType::kFloat32, out_gradient, first, count, at_out);
    float* const at_scores = at_scores_.Resize(queries * columns);
    operands.Multiply({{at_out, operands.Elements(row)},
                       {values_across_.get(), columns},
                       {at_scores, columns},
                       /*m=*/queries,
                       /*n=*/seen,
                       /*k=*/operands.Elements(row)});
    for (int64_t i = 0; i < queries; ++i) {
      SoftmaxBackward(weights + i * columns, seen, ScaleOf(x), at_scores + i * columns);
    }
    const float* const scores_along = operands.Along(at_scores, queries, columns, seen, scores_along_);
    float* const at_queries = result_.Resize(queries * row);
    operands.Multiply({{scores_along, along},
                       {all_keys, row},
                       {at_queries, row},
                       /*m=*/queries,
                       /*n=*/row,
                       /*k=*/operands.Elements(keys)});
    PutHeads(x, at_queries, first, count, query_gradient);
    // What the keys from the first on want: of the gradient at their scores with the queries, of the weights with the
    // gradient at what they mixed.
    const auto add = [&](const float* by_query, const float* factor, float* to) {
      const float* const a = operands.Down(by_query, queries, columns, seen, by_query_down_);
      const float* const b = operands.Down(factor, queries, row, row, factor_down_);
      operands.MultiplyAdd({{a + first_key, 1, columns},
                            {b, row},
                            {to, row},
                            /*m=*/keys - first_key,
                            /*n=*/row,
                            /*k=*/operands.Elements(queries)});
    };
    add(scores_along, queries_.get(), at_keys);
    add(operands.Along(weights, queries, columns, seen, weights_along_), at_out, at_values);
  });
  for (int64_t i = 0; i < own; ++i) {
    std::copy_n(at_keys + i * row, x.size, key_gradient + i * x.size);
    std::copy_n(at_values + i * row, x.size, value_gradient + i * x.size);
  }
}

}  // namespace nabla::kernels
