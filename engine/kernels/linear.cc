#include "engine/kernels/linear.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

#include "engine/kernels/elementwise.h"
#include "engine/kernels/linear_amx.h"
#include "engine/kernels/linear_dot.h"
#include "engine/kernels/linear_int8.h"
#include "engine/kernels/linear_pairs.h"
#include "engine/kernels/unrolled.h"
#include "engine/kernels/weight_streams.h"

// Arrays of vectors, as below, need vectors of a known size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/linear.cc"
#include "hwy/foreach_target.h"
// Behind foreach_target.h.
#include "engine/kernels/load-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace nabla::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
// Adds the 128-bit blocks of a vector.
template <class D>
HWY_INLINE void StoreSumOfBlocks([[maybe_unused]] D d, hn::Vec<D> sums, float* out) {
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> half;
    StoreSumOfBlocks(half, hn::Add(hn::LowerHalf(half, sums), hn::UpperHalf(half, sums)), out);
  } else {
    hn::StoreU(sums, d, out);
  }
}
#endif

// The sums of four vectors' lanes, to out[0…3]; always added in the same order.
template <class D>
HWY_INLINE void StoreSums([[maybe_unused]] D d, hn::Vec<D> a, hn::Vec<D> b, hn::Vec<D> c, hn::Vec<D> e, float* out) {
#if HWY_TARGET == HWY_SCALAR
  out[0] = hn::GetLane(a), out[1] = hn::GetLane(b), out[2] = hn::GetLane(c), out[3] = hn::GetLane(e);
#else
  const auto ac = hn::Add(hn::InterleaveLower(d, a, c), hn::InterleaveUpper(d, a, c));
  const auto be = hn::Add(hn::InterleaveLower(d, b, e), hn::InterleaveUpper(d, b, e));
  const auto abce = hn::Add(hn::InterleaveLower(d, ac, be), hn::InterleaveUpper(d, ac, be));
  StoreSumOfBlocks(d, abce, out);
#endif
}

// What is done to sums, one of either an output; null: nothing.
struct Finish {
  const float *scales, *bias;
};

// Dot products of kRows rows of x with kOutputs rows of the weights. Every sum runs over k in steps of a whole vector,
// whatever the tile's shape. Fetches kLines lines of `ahead` for each of an output's weights.
template <int kRows, int kOutputs, int kLines, typename Weight>
void Tile(const Weight* HWY_RESTRICT weight, const float* HWY_RESTRICT x, int64_t inputs, const char* ahead,
          const Finish& finish, float* out, int64_t out_stride) {
  const hn::ScalableTag<float> d;
  using Vector = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  Vector sums[kRows][kOutputs];
  NABLA_UNROLLED
  for (auto& row : sums) {
    for (Vector& sum : row) sum = hn::Zero(d);
  }
  int64_t k = 0;
  for (; k + lanes <= inputs; k += lanes) {
    Vector weights[kOutputs];
    for (int o = 0; o < kOutputs; ++o) weights[o] = LoadWide(d, weight + o * inputs + k);
    if (k * sizeof(Weight) % WeightStream::kLine == 0) {
      WeightStream::Fetch<kLines>(ahead);
      ahead += kLines * WeightStream::kLine;
    }
    for (int r = 0; r < kRows; ++r) {
      const Vector value = hn::LoadU(d, x + r * inputs + k);
      for (int o = 0; o < kOutputs; ++o) sums[r][o] = hn::MulAdd(value, weights[o], sums[r][o]);
    }
  }
  if (k < inputs) {
    Vector weights[kOutputs];
    for (int o = 0; o < kOutputs; ++o) weights[o] = LoadWideFirst(d, weight + o * inputs + k, inputs - k);
    NABLA_UNROLLED
    for (int r = 0; r < kRows; ++r) {
      const Vector value = LoadWideFirst(d, x + r * inputs + k, inputs - k);
      for (int o = 0; o < kOutputs; ++o) sums[r][o] = hn::MulAdd(value, weights[o], sums[r][o]);
    }
  }
  NABLA_UNROLLED
  for (int r = 0; r < kRows; ++r) {
    float* row = out + r * out_stride;
    if constexpr (kOutputs == 1) {
      float padded[4];
      StoreSums(d, sums[r][0], hn::Zero(d), hn::Zero(d), hn::Zero(d), padded);
      row[0] = padded[0];
    } else {
      for (int o = 0; o < kOutputs; o += 4) {
        StoreSums(d, sums[r][o], sums[r][o + 1], sums[r][o + 2], sums[r][o + 3], row + o);
      }
    }
    for (int o = 0; finish.scales != nullptr && o < kOutputs; ++o) row[o] *= finish.scales[o];
    for (int o = 0; finish.bias != nullptr && o < kOutputs; ++o) row[o] += finish.bias[o];
  }
}

template <int kOutputs, typename Weight>
void Rows(const Weight* weight, const float* x, int64_t rows, int64_t inputs, WeightStream stream, const Finish& finish,
          float* out, int64_t out_stride) {
  ForTiles<kOutputs>(rows, stream, [&]<int kRows, int kLines>(int64_t i, const char* ahead) HWY_ATTR {
    Tile<kRows, kOutputs, kLines>(weight, x + i * inputs, inputs, ahead, finish, out + i * out_stride, out_stride);
  });
}

// A quarter of a first-level cache, and what a stack can spare.
constexpr int64_t kWidenedNumbers = 8192;

template <typename Weight>
void WidenAll(const Weight* from, int64_t count, float* to) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(LoadWide(d, from + i), d, to + i);
  for (; i < count; ++i) to[i] = hn::GetLane(LoadWideFirst(d, from + i, 1));
}

template <typename Weight>
void LinearOf(const WeightMatrix& matrix, const float* x, int64_t rows, const float* bias, float* out,
              int64_t out_stride, int64_t begin, int64_t end) {
  const auto* weight = static_cast<const Weight*>(matrix.data);
  const int64_t inputs = matrix.inputs;
  int64_t o = begin;
  const auto finish_at = [&](int64_t output) {
    const auto at = [output](const float* numbers) { return numbers != nullptr ? numbers + output : nullptr; };
    return Finish{at(matrix.scales), at(bias)};
  };
  const auto one_by_one = [&]() HWY_ATTR {
    for (; o < end; ++o)
      Rows<1>(weight + o * inputs, x, rows, inputs, WeightStream(), finish_at(o), out + o, out_stride);
  };
  if (rows <= 2 && OneStreamIsBest()) return one_by_one();
  const int64_t tiles = rows / 4;
  const auto stream_at = [&](int64_t output, int outputs) {
    return WeightStream(weight + output * inputs, weight + end * inputs, outputs, inputs * sizeof(Weight), tiles);
  };
  if (rows == 1) {  // eight sums keep the adders busy while weights stream by
    for (; o + 8 <= end; o += 8) {
      Rows<8>(weight + o * inputs, x, rows, inputs, stream_at(o, 8), finish_at(o), out + o, out_stride);
    }
  }
  if (!std::is_same_v<Weight, float> && rows > 4 && 4 * inputs <= kWidenedNumbers) {
    HWY_ALIGN float wide[kWidenedNumbers];  // four rows of weights, widened once for all rows of x
    for (; o + 4 <= end; o += 4) {
      WidenAll(weight + o * inputs, 4 * inputs, wide);
      const WeightStream stream(weight + o * inputs, weight + end * inputs, sizeof(Weight), inputs * sizeof(float),
                                tiles);
      Rows<4>(wide, x, rows, inputs, stream, finish_at(o), out + o, out_stride);
    }
  }
  for (; o + 4 <= end; o += 4) {
    Rows<4>(weight + o * inputs, x, rows, inputs, stream_at(o, 4), finish_at(o), out + o, out_stride);
  }
  one_by_one();
}

void Linear(const WeightMatrix& matrix, const float* x, int64_t rows, const float* bias, float* out, int64_t out_stride,
            int64_t begin, int64_t end) {
  switch (matrix.type) {
    case NumberType::kFloat32:
      return LinearOf<float>(matrix, x, rows, bias, out, out_stride, begin, end);
    case NumberType::kBfloat16:
      return LinearOf<hwy::bfloat16_t>(matrix, x, rows, bias, out, out_stride, begin, end);
    case NumberType::kInt8:
      return LinearOf<int8_t>(matrix, x, rows, bias, out, out_stride, begin, end);
  }
}

float Quantize(const float* row, int64_t count, int8_t* out) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), whole = count / lanes * lanes;
  auto sizes = hn::Zero(d);
  for (int64_t i = 0; i < whole; i += lanes) sizes = hn::Max(sizes, hn::Abs(hn::LoadU(d, row + i)));
  float largest = hn::GetLane(hn::MaxOfLanes(d, sizes));
  for (int64_t i = whole; i < count; ++i) largest = std::max(largest, std::abs(row[i]));
  const float scale = largest / 127, inverse = largest > 0 ? 127 / largest : 0;
  for (int64_t i = 0; i < whole; i += lanes) {
    const auto numbers = hn::Mul(hn::LoadU(d, row + i), hn::Set(d, inverse));
    hn::StoreU(hn::DemoteTo(d8, hn::NearestInt(numbers)), d8, out + i);
  }
  for (int64_t i = whole; i < count; ++i) out[i] = static_cast<int8_t>(std::nearbyint(row[i] * inverse));
  return scale;
}

}  // namespace nabla::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nabla::kernels {
HWY_EXPORT(Linear);
HWY_EXPORT(Quantize);

float QuantizeRow(const float* row, int64_t count, int8_t* out) {
  return HWY_DYNAMIC_DISPATCH(Quantize)(row, count, out);
}

bool MultipliesByTiles(NumberType weights, int64_t inputs) {
  return weights == NumberType::kBfloat16 && TilesFit(inputs);
}

void LinearInput::AssignInPieces(const float* x, int64_t rows, int64_t inputs, NumberType weights) {
  x_ = x, rows_ = rows, inputs_ = inputs;
  const bool tiles = MultipliesByTiles(weights, inputs), rounds = weights == NumberType::kBfloat16 && !tiles;
  blocks_.resize(weights == NumberType::kInt8 && HasByteProducts() ? rows * BlocksOf(inputs) : 0);
  pairs_.resize(tiles ? rows * inputs / 2 : 0);
  narrow_.resize(rounds && HasPairProducts() ? rows * inputs : 0);
  rounded_.resize(rounds && !HasPairProducts() ? rows * inputs : 0);
}

void LinearInput::Assign(const float* x, int64_t rows, int64_t inputs, NumberType weights) {
  AssignInPieces(x, rows, inputs, weights);
  Take(0, inputs);
}

void LinearInput::Take(int64_t begin, int64_t end) {
  if (in_tiles()) return PackForTiles(x_, rows_, inputs_, begin, end, pairs_.data());
  for (int64_t i = 0; in_bytes() && i < rows_; ++i) {
    RoundToBytes(x_ + i * inputs_, inputs_, begin, end, blocks_.data() + i * BlocksOf(inputs_));
  }
  for (int64_t i = 0; narrow() && i < rows_; ++i) {
    NarrowForPairs(x_ + i * inputs_ + begin, end - begin, narrow_.data() + i * inputs_ + begin);
  }
  if (rounded_.empty()) return;
  for (int64_t i = 0; i < rows_; ++i) {
    for (int64_t k = i * inputs_ + begin; k < i * inputs_ + end; ++k) {
      rounded_.data()[k] = std::bit_cast<float>(uint32_t{RoundToBfloat16(x_[k])} << 16);
    }
  }
}

void Linear(const WeightMatrix& weight, const LinearInput& x, const float* bias, float* out, int64_t out_stride,
            int64_t begin, int64_t end) {
  if (x.in_tiles()) {
    LinearByTiles(weight, x.pairs(), x.rows(), bias, out, out_stride, begin, end);
  } else if (x.in_bytes()) {
    LinearByBytes(weight, x.blocks(), x.rows(), bias, out, out_stride, begin, end);
  } else if (weight.packed) {
    LinearByPackedPairs(weight, x.narrow_numbers(), x.rows(), bias, out, out_stride, begin, end);
  } else if (x.narrow()) {
    LinearByPairs(weight, x.narrow_numbers(), x.rows(), bias, out, out_stride, begin, end);
  } else {
    HWY_DYNAMIC_DISPATCH(Linear)(weight, x.numbers(), x.rows(), bias, out, out_stride, begin, end);
  }
}

}  // namespace nabla::kernels
#endif
