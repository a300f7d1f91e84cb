#include "engine/kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/kernels/attention_rows.h"
#include "tests/engine/kernels/kernels_fixture.h"

namespace nabla::kernels {
namespace {

// Keys and values of `length` positions, scattered over blocks.
class AttentionTest : public testing::TestWithParam<int64_t> {
 protected:
  static constexpr int64_t kHeads = 6, kKvHeads = 2, kLayers = 3, kLayer = 1;
};

TEST_P(AttentionTest, AgreesWithSoftmaxInDoublePrecision) {
  const int64_t length = GetParam();
  for (const int64_t head_dim : {16, 24, 64, 80}) {
    const int64_t per_layer = kKvHeads * head_dim * kBlockTokens, blocks = (length + kBlockTokens - 1) / kBlockTokens;
    for (const NumberType type : {NumberType::kFloat32, NumberType::kBfloat16}) {
      // What no position has been put into must not matter: not-a-numbers.
      const size_t bytes = (blocks + 2) * kLayers * per_layer * 4;
      std::vector<char> keys(bytes, '\xff'), values(bytes, '\xff');
      const int64_t size = type == NumberType::kFloat32 ? 4 : 2;
      const KvBlocks kv{.keys = keys.data() + kLayer * per_layer * size,
                        .values = values.data() + kLayer * per_layer * size,
                        .block_stride = kLayers * per_layer,
                        .type = type,
                        .kv_heads = kKvHeads,
                        .head_dim = head_dim};
      std::vector<int32_t> order;
      for (int64_t b = 0; b < blocks; ++b) order.push_back(static_cast<int32_t>(blocks + 1 - b));
      const std::vector<float> query = Random(kHeads * head_dim, 4);
      std::vector<float> key = Random(length * kKvHeads * head_dim, 5), value = Random(length * kKvHeads * head_dim, 6);
      for (int64_t t = 0; t < length; ++t) {
        for (int64_t head = 0; head < kKvHeads; ++head) {
          const int64_t from = (t * kKvHeads + head) * head_dim;
          StoreKey(kv, order[t / kBlockTokens], t % kBlockTokens, head, key.data() + from);
          StoreValue(kv, order[t / kBlockTokens], t % kBlockTokens, head, value.data() + from);
        }
      }
      if (type == NumberType::kBfloat16) {
        for (float& number : key) number = FromBfloat16(RoundToBfloat16(number));
        for (float& number : value) number = FromBfloat16(RoundToBfloat16(number));
      }
      std::vector<float> out(kHeads * head_dim), scores(length + kBlockTokens);
      Attend(kv, {.query = query.data(), .blocks = order.data(), .length = length, .out = out.data()}, kHeads, 0,
             kHeads, scores.data());
      for (int64_t head = 0; head < kHeads; ++head) {
        const auto at = [&](int64_t t) { return (t * kKvHeads + head / (kHeads / kKvHeads)) * head_dim; };
        std::vector<double> weights;
        double sum = 0;
        for (int64_t t = 0; t < length; ++t) {
          double score = 0;
          for (int64_t i = 0; i < head_dim; ++i) score += double{query[head * head_dim + i]} * key[at(t) + i];
          weights.push_back(std::exp(score / std::sqrt(static_cast<double>(head_dim))));
          sum += weights.back();
        }
        for (int64_t i = 0; i < head_dim; ++i) {
          double expected = 0;
          for (int64_t t = 0; t < length; ++t) expected += weights[t] / sum * value[at(t) + i];
          ASSERT_NEAR(out[head * head_dim + i], expected, 2e-6) << "head " << head << ", " << i << " of " << head_dim;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Lengths, AttentionTest, testing::Values(1, 15, 16, 17, 64, 65, 200));

struct RowsShape {
  int64_t rows, before, size, shared;
};

class AttentionRowsTest : public testing::TestWithParam<RowsShape> {};

TEST_P(AttentionRowsTest, AgreesWithDoublePrecision) {
  const auto [rows, before, size, shared] = GetParam();
  const int64_t keys = before + rows, stride = shared * size + 5, first_key = before / 2;
  AttentionOfRows attention;  // one for all: what a call leaves must not matter to the next
  for (const NumberType type : {NumberType::kFloat32, NumberType::kBfloat16}) {
    std::vector<std::vector<float>> wide = {Random(keys * size, 21), Random(keys * size, 22), Random(rows * stride, 23),
                                            Random(rows * stride, 24)};
    std::vector<std::vector<uint16_t>> narrow(wide.size());
    std::vector<const void*> given;
    for (size_t i = 0; i < wide.size(); ++i) {
      for (float& number : wide[i]) {
        if (type == NumberType::kBfloat16) narrow[i].push_back(RoundToBfloat16(number));
        if (type == NumberType::kBfloat16) number = FromBfloat16(narrow[i].back());
      }
      given.push_back(type == NumberType::kFloat32 ? static_cast<const void*>(wide[i].data()) : narrow[i].data());
    }
    const std::vector<float>&key = wide[0], &value = wide[1], &query = wide[2], &gradient = wide[3];
    const AttentionRows x = {.type = type,
                             .keys = given[0],
                             .values = given[1],
                             .queries = given[2],
                             .rows = rows,
                             .before = before,
                             .size = size,
                             .shared = shared,
                             .stride = stride};
    std::vector<float> out(rows * stride), at_query(rows * stride);
    std::vector<float> at_key((keys - first_key) * size), at_value(at_key.size());
    attention.Forward(x, out.data());
    attention.Backward(x, gradient.data(), at_query.data(), first_key, at_key.data(), at_value.data());

    const double scale = 1 / std::sqrt(static_cast<double>(size));
    // One factor of every term may have been rounded to bfloat16, by at most 2⁻⁸ of it (8 significant bits).
    const double rounding = type == NumberType::kBfloat16 ? std::ldexp(1.0, -8) : 0;
    std::vector<double> all_at_key(keys * size), all_at_value(keys * size), key_terms(keys * size),
        value_terms(keys * size);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t head = 0; head < shared; ++head) {
        const int64_t at = i * stride + head * size, seen = before + i + 1;
        std::vector<double> weights(seen), at_weights(seen);
        double sum = 0, mean = 0;
        for (int64_t t = 0; t < seen; ++t) {
          for (int64_t k = 0; k < size; ++k) {
            weights[t] += double{query[at + k]} * key[t * size + k];
            at_weights[t] += double{gradient[at + k]} * value[t * size + k];
          }
          sum += weights[t] = std::exp(weights[t] * scale);
        }
        for (int64_t t = 0; t < seen; ++t) mean += (weights[t] /= sum) * at_weights[t];
        for (int64_t k = 0; k < size; ++k) {
          double expected = 0, expected_at_query = 0, terms = 0, query_terms = 0;
          for (int64_t t = 0; t < seen; ++t) {
            const double at_score = scale * weights[t] * (at_weights[t] - mean);
            const auto add = [](double term, double& sum, double& size_of_terms) {
              sum += term, size_of_terms += std::abs(term);
            };
            add(weights[t] * value[t * size + k], expected, terms);
            add(at_score * key[t * size + k], expected_at_query, query_terms);
            add(at_score * query[at + k], all_at_key[t * size + k], key_terms[t * size + k]);
            add(weights[t] * gradient[at + k], all_at_value[t * size + k], value_terms[t * size + k]);
          }
          ASSERT_NEAR(out[at + k], expected, 1e-5 + rounding * terms) << "row " << i << ", head " << head;
          ASSERT_NEAR(at_query[at + k], expected_at_query, 2e-5 + rounding * query_terms)
              << "row " << i << ", head " << head;
        }
      }
    }
    for (size_t i = 0; i < at_key.size(); ++i) {
      const int64_t at = first_key * size + static_cast<int64_t>(i);
      const double sums = 2e-5 * std::sqrt(rows * shared);
      ASSERT_NEAR(at_key[i], all_at_key[at], sums + rounding * key_terms[at]) << i;
      ASSERT_NEAR(at_value[i], all_at_value[at], sums + rounding * value_terms[at]) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionRowsTest,
                         testing::Values(RowsShape{1, 0, 16, 1}, RowsShape{1, 40, 64, 3}, RowsShape{7, 5, 24, 3},
                                         RowsShape{50, 33, 64, 3}, RowsShape{20, 100, 80, 2}, RowsShape{3, 20, 8, 60}));

}  // namespace
}  // namespace nabla::kernels
