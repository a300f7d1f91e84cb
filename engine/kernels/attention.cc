#include "engine/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "engine/kernels/elementwise.h"
#include "engine/kernels/unrolled.h"

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/attention.cc"
#include "hwy/foreach_target.h"
// Behind foreach_target.h.
#include "engine/kernels/load-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace nabla::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// At most kBlockTokens lanes, so that a block is a whole number of vectors.
using Tag = hn::CappedTag<float, kBlockTokens>;
using Vector = hn::Vec<Tag>;

// Long sums are added up in so many chains: several short ones round less than one long one, and wait less for each
// other.
constexpr int kChains = 4;

HWY_INLINE Vector SumOfChains(const Vector* chains) {
  return hn::Add(hn::Add(chains[0], chains[1]), hn::Add(chains[2], chains[3]));
}

// ⟨query, key⟩ · scale for all positions of kBlocks blocks.
template <int kBlocks, typename Number>
void ScoreBlocks(const Number* const* keys, const float* query, int64_t head_dim, float scale, float* scores) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t lane = 0; lane < kBlockTokens; lane += lanes) {
    Vector sums[kBlocks][kChains];
    for (auto& chains : sums) {
      for (Vector& sum : chains) sum = hn::Zero(d);
    }
    const auto add = [&](int64_t i, int chain) HWY_ATTR {
      const Vector factor = hn::Set(d, query[i]);
      for (int b = 0; b < kBlocks; ++b) {
        sums[b][chain] = hn::MulAdd(factor, LoadWide(d, keys[b] + i * kBlockTokens + lane), sums[b][chain]);
      }
    };
    int64_t i = 0;
    for (; i + kChains <= head_dim; i += kChains) {
      for (int chain = 0; chain < kChains; ++chain) add(i + chain, chain);
    }
    for (; i < head_dim; ++i) add(i, 0);
    for (int b = 0; b < kBlocks; ++b) {
      hn::StoreU(hn::Mul(SumOfChains(sums[b]), hn::Set(d, scale)), d, scores + b * kBlockTokens + lane);
    }
  }
}

// exp(score − largest) in place; what lies behind `length` becomes 0. Returns the sum.
float Exponentiate(float* scores, int64_t length) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t padded = (length + kBlockTokens - 1) / kBlockTokens * kBlockTokens;
  std::fill(scores + length, scores + padded, -std::numeric_limits<float>::infinity());
  Vector largest = hn::LoadU(d, scores);
  for (int64_t i = lanes; i < padded; i += lanes) largest = hn::Max(largest, hn::LoadU(d, scores + i));
  largest = hn::MaxOfLanes(d, largest);
  Vector sum = hn::Zero(d);
  for (int64_t i = 0; i < padded; i += lanes) {
    const Vector score = hn::Sub(hn::LoadU(d, scores + i), largest);
    const Vector weight = hn::IfThenElseZero(hn::Gt(score, hn::Set(d, -104.0f)), hn::Exp(d, score));
    hn::StoreU(weight, d, scores + i);
    sum = hn::Add(sum, weight);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// out = Σ_t weight_t · value_t / sum, kVectors vectors of the head at a time.
template <int kVectors, typename Number>
void MixValues(const Number* values, int64_t head_stride, const int32_t* blocks, int64_t block_stride, int64_t length,
               const float* weights, float scale, float* out) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  Vector sums[kVectors][kChains];
  for (auto& chains : sums) {
    for (Vector& sum : chains) sum = hn::Zero(d);
  }
  for (int64_t begin = 0; begin < length; begin += kBlockTokens) {
    const Number* value = values + blocks[begin / kBlockTokens] * block_stride;
    const int64_t end = std::min(length, begin + kBlockTokens);
    for (int64_t t = begin; t < end; t += kChains) {
      for (int chain = 0; chain < kChains && t + chain < end; ++chain, value += head_stride) {
        const Vector weight = hn::Set(d, weights[t + chain]);
        for (int i = 0; i < kVectors; ++i) {
          sums[i][chain] = hn::MulAdd(weight, LoadWide(d, value + i * lanes), sums[i][chain]);
        }
      }
    }
  }
  NABLA_UNROLLED
  for (int i = 0; i < kVectors; ++i) {
    hn::StoreU(hn::Mul(SumOfChains(sums[i]), hn::Set(d, scale)), d, out + i * lanes);
  }
}

template <typename Number>
void MixRest(const Number* values, int64_t head_dim, const int32_t* blocks, int64_t block_stride, int64_t length,
             int64_t first, const float* weights, float scale, float* out) {
  for (int64_t i = first; i < head_dim; ++i) {
    float sum = 0;
    for (int64_t t = 0; t < length; ++t) {
      const Number* value = values + blocks[t / kBlockTokens] * block_stride + t % kBlockTokens * head_dim + i;
      if constexpr (std::is_same_v<Number, float>) {
        sum += weights[t] * *value;
      } else {
        sum += weights[t] * hwy::F32FromBF16(*value);
      }
    }
    out[i] = sum * scale;
  }
}

template <typename Number>
void AttendHead(const KvBlocks& kv, const AttentionRow& row, int64_t head, int64_t kv_head, float* scores) {
  const int64_t head_dim = kv.head_dim, offset = kv_head * head_dim * kBlockTokens;
  const auto* keys = static_cast<const Number*>(kv.keys) + offset;
  const auto* values = static_cast<const Number*>(kv.values) + offset;
  const float* query = row.query + head * head_dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  const int64_t count = (row.length + kBlockTokens - 1) / kBlockTokens;
  const auto score = [&]<int kBlocks>(int64_t first) HWY_ATTR {
    const Number* block_keys[kBlocks];
    for (int i = 0; i < kBlocks; ++i) block_keys[i] = keys + row.blocks[first + i] * kv.block_stride;
    ScoreBlocks<kBlocks>(block_keys, query, head_dim, scale, scores + first * kBlockTokens);
  };
  int64_t b = 0;
  for (; b + 4 <= count; b += 4) score.template operator()<4>(b);
  for (; b < count; ++b) score.template operator()<1>(b);
  const float normaliser = 1.0f / Exponentiate(scores, row.length);
  float* out = row.out + head * head_dim;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(Tag()));
  int64_t i = 0;
  for (; i + 4 * lanes <= head_dim; i += 4 * lanes) {
    MixValues<4>(values + i, head_dim, row.blocks, kv.block_stride, row.length, scores, normaliser, out + i);
  }
  for (; i + lanes <= head_dim; i += lanes) {
    MixValues<1>(values + i, head_dim, row.blocks, kv.block_stride, row.length, scores, normaliser, out + i);
  }
  MixRest(values, head_dim, row.blocks, kv.block_stride, row.length, i, scores, normaliser, out);
}

void Attend(const KvBlocks& kv, const AttentionRow& row, int64_t heads, int64_t begin, int64_t end, float* scores) {
  const int64_t group = heads / kv.kv_heads;
  for (int64_t head = begin; head < end; ++head) {
    if (kv.type == NumberType::kFloat32) {
      AttendHead<float>(kv, row, head, head / group, scores);
    } else {
      AttendHead<hwy::bfloat16_t>(kv, row, head, head / group, scores);
    }
  }
}

}  // namespace nabla::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nabla::kernels {
HWY_EXPORT(Attend);

void Attend(const KvBlocks& kv, const AttentionRow& row, int64_t heads, int64_t begin, int64_t end, float* scores) {
  HWY_DYNAMIC_DISPATCH(Attend)(kv, row, heads, begin, end, scores);
}

namespace {

// To every stride-th number of `to`, of the cache's type.
void Store(const KvBlocks& kv, const float* from, void* to, int64_t first, int64_t stride) {
  if (kv.type == NumberType::kFloat32) {
    auto* numbers = static_cast<float*>(to) + first;
    for (int64_t i = 0; i < kv.head_dim; ++i) numbers[i * stride] = from[i];
  } else {
    auto* numbers = static_cast<uint16_t*>(to) + first;
    for (int64_t i = 0; i < kv.head_dim; ++i) numbers[i * stride] = RoundToBfloat16(from[i]);
  }
}

}  // namespace

void StoreKey(const KvBlocks& kv, int32_t block, int64_t offset, int64_t kv_head, const float* key) {
  Store(kv, key, kv.keys, block * kv.block_stride + kv_head * kv.head_dim * kBlockTokens + offset, kBlockTokens);
}

void StoreValue(const KvBlocks& kv, int32_t block, int64_t offset, int64_t kv_head, const float* value) {
  Store(kv, value, kv.values, block * kv.block_stride + (kv_head * kBlockTokens + offset) * kv.head_dim, 1);
}

}  // namespace nabla::kernels
#endif
