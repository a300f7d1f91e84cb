#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "engine/kernels/attention.h"
#include "engine/kernels/attention_rows.h"
#include "engine/kernels/backward.h"
#include "engine/kernels/elementwise.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/thread_team.h"

namespace nabla::kernels {
namespace {

std::vector<float> Random(int64_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<float> numbers(count);
  for (float& number : numbers) number = static_cast<float>(static_cast<int>(engine() % 2001) - 1000) / 500.0f;
  return numbers;
}

float FromBfloat16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float number;
  std::memcpy(&number, &wide, sizeof(number));
  return number;
}

std::vector<uint16_t> ToBfloat16(const std::vector<float>& numbers) {
  std::vector<uint16_t> bits;
  for (const float number : numbers) bits.push_back(RoundToBfloat16(number));
  return bits;
}

struct Shape {
  int64_t rows, inputs, outputs;
};

class LinearTest : public testing::TestWithParam<Shape> {
 protected:
  const int64_t rows_ = GetParam().rows, inputs_ = GetParam().inputs, outputs_ = GetParam().outputs;
  const std::vector<float> x_ = Random(rows_ * inputs_, 1), weight_ = Random(outputs_ * inputs_, 2);
  const std::vector<uint16_t> half_ = ToBfloat16(weight_);
  std::vector<int8_t> quantized_ = std::vector<int8_t>(outputs_ * inputs_);
  std::vector<float> scales_ = std::vector<float>(outputs_);

  void SetUp() override {
    for (int64_t o = 0; o < outputs_; ++o) {
      scales_[o] = QuantizeRow(weight_.data() + o * inputs_, inputs_, quantized_.data() + o * inputs_);
    }
  }

  WeightMatrix Matrix(NumberType type) const {
    switch (type) {
      case NumberType::kFloat32:
        return {weight_.data(), type, outputs_, inputs_};
      case NumberType::kBfloat16:
        return {half_.data(), type, outputs_, inputs_};
      case NumberType::kInt8:
        return {quantized_.data(), type, outputs_, inputs_, scales_.data()};
    }
    return {};
  }

  // A weight as it was given to Linear.
  double Weight(NumberType type, int64_t o, int64_t k) const {
    const int64_t at = o * inputs_ + k;
    if (type == NumberType::kInt8) return static_cast<double>(quantized_[at]) * scales_[o];
    return type == NumberType::kFloat32 ? weight_[at] : FromBfloat16(half_[at]);
  }

  // Products with `input`, which was made of `x`, are sums in double precision.
  void ExpectSums(NumberType type, const LinearInput& input, const std::vector<float>& x) const {
    const std::vector<float> bias = Random(outputs_, 3);
    std::vector<float> out(rows_ * outputs_);
    Linear(Matrix(type), input, bias.data(), out.data(), outputs_, 0, outputs_);
    for (int64_t i = 0; i < rows_; ++i) {
      for (int64_t o = 0; o < outputs_; ++o) {
        double expected = bias[o], size = 1;
        for (int64_t k = 0; k < inputs_; ++k) {
          const float number = x[i * inputs_ + k];
          const double factor = type == NumberType::kBfloat16 ? FromBfloat16(RoundToBfloat16(number)) : number;
          const double product = factor * Weight(type, o, k);
          expected += product;
          size += std::abs(product);
        }
        ASSERT_NEAR(out[i * outputs_ + o], expected, 1e-6 * size) << "row " << i << ", output " << o;
      }
    }
  }
};

constexpr NumberType kTypes[] = {NumberType::kFloat32, NumberType::kBfloat16, NumberType::kInt8};

TEST_P(LinearTest, QuantizedNumbersAreTheNearestMultiplesOfTheScale) {
  for (int64_t o = 0; o < outputs_; ++o) {
    float largest = 0;
    for (int64_t k = 0; k < inputs_; ++k) {
      largest = std::max(largest, std::abs(weight_[o * inputs_ + k]));
      EXPECT_NEAR(Weight(NumberType::kInt8, o, k), weight_[o * inputs_ + k], 0.5001 * scales_[o]);
    }
    EXPECT_FLOAT_EQ(scales_[o] * 127, largest);
  }
  const std::vector<float> zeros(5);
  std::vector<int8_t> out(5, 1);
  EXPECT_EQ(QuantizeRow(zeros.data(), 5, out.data()), 0);
  EXPECT_EQ(out, std::vector<int8_t>(5));
}

// Numbers that bytes hold as they are: every 32 of a row are whole multiples, up to 127, of a power of two.
std::vector<float> InBytes(std::vector<float> x, int64_t inputs) {
  for (size_t i = 0; i < x.size(); ++i) {
    const auto k = static_cast<int64_t>(i) % inputs;
    const float scale = std::exp2(static_cast<float>(k / 32 % 3) - 6);
    x[i] = (k % 32 == 0 ? 127 : std::round(x[i] * 63)) * scale;
  }
  return x;
}

TEST_P(LinearTest, AgreesWithSumsInDoublePrecision) {
  for (const NumberType type : kTypes) {
    const std::vector<float> x = type == NumberType::kInt8 ? InBytes(x_, inputs_) : x_;
    ExpectSums(type, LinearInput(x.data(), rows_, inputs_, type), x);
  }
}

// As CPUs multiply that have no instruction for bytes.
TEST_P(LinearTest, Int8WeightsMayMeetFloats) {
  ExpectSums(NumberType::kInt8, LinearInput(x_.data(), rows_, inputs_, NumberType::kFloat32), x_);
}

// By half of what its 32 numbers are multiples of, at most.
TEST_P(LinearTest, ForInt8WeightsXIsRoundedToTheNearestBytes) {
  std::vector<float> out(rows_ * outputs_);
  Linear(Matrix(NumberType::kInt8), LinearInput(x_.data(), rows_, inputs_, NumberType::kInt8), nullptr, out.data(),
         outputs_, 0, outputs_);
  for (int64_t i = 0; i < rows_; ++i) {
    for (int64_t o = 0; o < outputs_; ++o) {
      double exact = 0, bound = 1e-5;
      for (int64_t begin = 0; begin < inputs_; begin += 32) {
        double largest = 0, weights = 0;
        for (int64_t k = begin; k < std::min(begin + 32, inputs_); ++k) {
          const double number = x_[i * inputs_ + k], weight = Weight(NumberType::kInt8, o, k);
          exact += number * weight;
          largest = std::max(largest, std::abs(number)), weights += std::abs(weight);
        }
        bound += 0.5001 * largest / 127 * weights;
      }
      ASSERT_NEAR(out[i * outputs_ + o], exact, bound) << "row " << i << ", output " << o;
    }
  }
}

// Tiles of every shape add up the same numbers in the same order.
TEST_P(LinearTest, ARowsBitsDoNotDependOnHowManyRowsThereAreNorOnHowOutputsAreDivided) {
  for (const NumberType type : kTypes) {
    const std::vector<float> bias = Random(outputs_, 3);
    std::vector<float> together(rows_ * outputs_), apart(rows_ * outputs_);
    Linear(Matrix(type), LinearInput(x_.data(), rows_, inputs_, type), bias.data(), together.data(), outputs_, 0,
           outputs_);
    for (int64_t i = 0; i < rows_; ++i) {
      const LinearInput row(x_.data() + i * inputs_, 1, inputs_, type);
      for (int64_t o = 0; o < outputs_; o += 3) {
        Linear(Matrix(type), row, bias.data(), apart.data() + i * outputs_, outputs_, o, std::min(o + 3, outputs_));
      }
    }
    EXPECT_EQ(together, apart);
  }
}

// As the columns of x come from several threads, in any order.
TEST_P(LinearTest, AnInputTakenInPiecesIsTheSame) {
  constexpr int64_t kPiece = LinearInput::kTogether;
  LinearInput pieces;  // one for all types: it leaves nothing of the last
  for (const NumberType type : kTypes) {
    pieces.AssignInPieces(x_.data(), rows_, inputs_, type);
    for (int64_t begin = (inputs_ - 1) / kPiece * kPiece; begin >= 0; begin -= kPiece) {
      pieces.Take(begin, std::min(begin + kPiece, inputs_));
    }
    std::vector<float> whole(rows_ * outputs_), joined(rows_ * outputs_);
    Linear(Matrix(type), LinearInput(x_.data(), rows_, inputs_, type), nullptr, whole.data(), outputs_, 0, outputs_);
    Linear(Matrix(type), pieces, nullptr, joined.data(), outputs_, 0, outputs_);
    EXPECT_EQ(whole, joined);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LinearTest,
                         testing::Values(Shape{1, 64, 8}, Shape{1, 70, 13}, Shape{2, 16, 5}, Shape{3, 48, 12},
                                         Shape{4, 5, 4}, Shape{7, 100, 9}, Shape{16, 192, 33}, Shape{6, 3000, 10},
                                         Shape{1, 300, 50}, Shape{5, 300, 50}, Shape{14, 300, 50}, Shape{19, 300, 50},
                                         Shape{17, 32, 31}, Shape{37, 96, 70}, Shape{33, 64, 17}, Shape{1, 192, 48}));

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

TEST(ElementwiseTest, Bfloat16RoundsToNearestEven) {
  EXPECT_EQ(RoundToBfloat16(1.0f), 0x3f80);
  EXPECT_EQ(RoundToBfloat16(1.00390625f), 0x3f80) << "halfway, to even";
  EXPECT_EQ(RoundToBfloat16(1.01171875f), 0x3f82) << "halfway, to even";
  EXPECT_EQ(RoundToBfloat16(-1.005f), 0xbf81);
  EXPECT_TRUE(std::isnan(FromBfloat16(RoundToBfloat16(std::nanf("")))));
}

TEST(ElementwiseTest, NarrowingAndWideningGoToTheNearestAndBack) {
  const std::vector<float> numbers = Random(37, 10);
  std::vector<uint16_t> half(37);
  Narrow(NumberType::kBfloat16, numbers.data(), 37, half.data());
  EXPECT_EQ(half, ToBfloat16(numbers));
  std::vector<float> wide(37), same(37);
  Widen(NumberType::kBfloat16, half.data(), 37, wide.data());
  for (size_t i = 0; i < wide.size(); ++i) EXPECT_EQ(wide[i], FromBfloat16(half[i]));
  Narrow(NumberType::kFloat32, numbers.data(), 37, same.data());
  EXPECT_EQ(same, numbers);
}

TEST(ElementwiseTest, NormRotationAndGateAgreeWithTheirFormulas) {
  const int64_t count = 70;
  const std::vector<float> x = Random(count, 7), weight = Random(count, 8), angles = Random(count, 9);
  std::vector<float> out(count);
  RmsNorm(x.data(), weight.data(), count, 1e-5f, out.data());
  double squares = 0;
  for (const float number : x) squares += double{number} * number;
  for (int64_t i = 0; i < count; ++i) {
    EXPECT_NEAR(out[i], weight[i] * x[i] / std::sqrt(squares / count + 1e-5), 1e-5);
  }
  std::vector<float> cosines(count), sines(count), turned = x;
  for (int64_t i = 0; i < count; ++i) {
    cosines[i] = std::cos(angles[i % (count / 2)]), sines[i] = std::sin(angles[i % (count / 2)]);
  }
  Rotate(cosines.data(), sines.data(), count, turned.data());
  for (int64_t i = 0; i < count / 2; ++i) {
    EXPECT_NEAR(turned[i], x[i] * cosines[i] - x[i + count / 2] * sines[i], 1e-5);
    EXPECT_NEAR(turned[i + count / 2], x[i + count / 2] * cosines[i] + x[i] * sines[i], 1e-5);
  }
  std::vector<float> gate = x;
  gate[0] = -200, gate[1] = 200;
  const std::vector<float> before = gate;
  SiluMultiply(weight.data(), count, gate.data());
  for (int64_t i = 0; i < count; ++i) {
    EXPECT_NEAR(gate[i], before[i] / (1 + std::exp(-double{before[i]})) * weight[i], 1e-4);
  }
}

TEST(ElementwiseTest, StatsAreThoseOfTheSoftmax) {
  std::vector<float> logits = Random(403, 10);
  logits[200] = logits[300] = 3.5f;
  const RowStats stats = StatsOf(logits.data(), 403);
  EXPECT_EQ(stats.argmax, 200) << "the first of equals";
  double sum = 0, entropy = 0;
  for (const float logit : logits) sum += std::exp(double{logit});
  for (const float logit : logits) entropy -= std::exp(double{logit}) / sum * std::log(std::exp(double{logit}) / sum);
  EXPECT_NEAR(stats.confidence, std::exp(3.5) / sum, 1e-6);
  EXPECT_NEAR(stats.entropy, entropy, 1e-5);
  const std::vector<float> sure = {-500.0f, 100.0f, -500.0f};
  EXPECT_EQ(StatsOf(sure.data(), 3).confidence, 1.0f);
  EXPECT_NEAR(StatsOf(sure.data(), 3).entropy, 0, 1e-6);
}

// Sizes with and without a rest behind whole vectors.
class BackwardTest : public testing::TestWithParam<int> {
 protected:
  // Σ weights · function(x), its gradient by central differences in double precision.
  template <typename Function>
  std::vector<double> Numeric(std::vector<float> x, const Function& function) const {
    constexpr float kStep = 1.0f / 64;
    std::vector<double> gradient;
    for (float& number : x) {
      const float before = number;
      number = before + kStep;
      const double up = function(x);
      number = before - kStep;
      gradient.push_back((up - function(x)) / (2.0 * kStep));
      number = before;
    }
    return gradient;
  }
  static double Dot(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
  }
  static void ExpectNear(const std::vector<float>& gradient, const std::vector<double>& expected) {
    for (size_t i = 0; i < gradient.size(); ++i) {
      EXPECT_NEAR(gradient[i], expected[i], 2e-3 * std::max(1.0, std::abs(expected[i]))) << i;
    }
  }

  const int count_ = GetParam();
  const std::vector<float> x_ = Random(count_, 11), weight_ = Random(count_, 12), out_gradient_ = Random(count_, 13);
};

TEST_P(BackwardTest, RmsNorm) {
  std::vector<float> gradient(count_, 0.5f);
  AddRmsNormBackward(x_.data(), weight_.data(), out_gradient_.data(), count_, 1e-5f, gradient.data());
  for (float& number : gradient) number -= 0.5f;
  ExpectNear(gradient, Numeric(x_, [&](const std::vector<float>& x) {
               std::vector<float> out(count_);
               RmsNorm(x.data(), weight_.data(), count_, 1e-5f, out.data());
               return Dot(out, out_gradient_);
             }));
}

TEST_P(BackwardTest, SiluMultiply) {
  const std::vector<float>& up = weight_;
  std::vector<float> at_gate = out_gradient_, at_up(count_);
  SiluMultiplyBackward(x_.data(), up.data(), at_gate.data(), count_, at_gate.data(), at_up.data());
  const auto value = [&](std::vector<float> gate, const std::vector<float>& factor) {
    SiluMultiply(factor.data(), count_, gate.data());
    return Dot(gate, out_gradient_);
  };
  ExpectNear(at_gate, Numeric(x_, [&](const std::vector<float>& gate) { return value(gate, up); }));
  ExpectNear(at_up, Numeric(up, [&](const std::vector<float>& factor) { return value(x_, factor); }));
}

TEST_P(BackwardTest, SoftmaxHidesWhatIsNotVisible) {
  constexpr float kScale = 0.5f;
  const int visible = (count_ + 1) / 2;
  std::vector<float> weights = x_;
  Softmax(visible, count_, kScale, weights.data());
  double sum = 0;
  for (int i = 0; i < visible; ++i) sum += std::exp(kScale * static_cast<double>(x_[i]));
  for (int i = 0; i < count_; ++i) {
    EXPECT_NEAR(weights[i], i < visible ? std::exp(kScale * static_cast<double>(x_[i])) / sum : 0.0, 1e-6);
  }
  std::vector<float> gradient = out_gradient_;
  SoftmaxBackward(weights.data(), count_, kScale, gradient.data());
  ExpectNear(gradient, Numeric(x_, [&](std::vector<float> scores) {
               Softmax(visible, count_, kScale, scores.data());
               return Dot(scores, out_gradient_);
             }));
}

TEST_P(BackwardTest, RotateBackUndoesRotate) {
  const int count = count_ / 2 * 2;
  std::vector<float> cosines(count), sines(count), x(x_.begin(), x_.begin() + count);
  for (int i = 0; i < count; ++i) {
    const float angle = 0.3f * static_cast<float>(i % (count / 2) + 1);
    cosines[i] = std::cos(angle), sines[i] = std::sin(angle);
  }
  Rotate(cosines.data(), sines.data(), count, x.data());
  RotateBack(cosines.data(), sines.data(), count, x.data());
  for (int i = 0; i < count; ++i) EXPECT_NEAR(x[i], x_[i], 1e-6);
}

TEST_P(BackwardTest, LogSumExpOfLargeNumbers) {
  std::vector<float> x = x_, out(count_);
  for (float& number : x) number += 1000;
  double sum = 0;
  for (const float number : x) sum += std::exp(static_cast<double>(number) - 1000);
  const float result = LogSumExp(x.data(), count_);
  EXPECT_NEAR(result, 1000 + std::log(sum), 2e-4);
  ExpMinus(x.data(), count_, result, out.data());
  for (int i = 0; i < count_; ++i) EXPECT_NEAR(out[i], std::exp(static_cast<double>(x[i]) - result), 1e-5);
}

TEST_P(BackwardTest, NarrowRoundsAsOneNumberDoes) {
  std::vector<float> x = x_;
  x[0] = std::numeric_limits<float>::quiet_NaN();
  x[count_ - 1] = std::numeric_limits<float>::infinity();
  if (count_ > 3) x[1] = 1.00390625f, x[2] = 1.01171875f;  // halfway: to even
  std::vector<uint16_t> narrow(count_);
  Narrow(NumberType::kBfloat16, x.data(), count_, narrow.data());
  EXPECT_EQ(narrow, ToBfloat16(x));
}

INSTANTIATE_TEST_SUITE_P(Sizes, BackwardTest, testing::Values(2, 7, 16, 33, 64));

TEST(ThreadCountTest, IsAsToldOrACoreForEveryFewMillionParameters) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  EXPECT_EQ(ThreadCount(3, 1), 3);
  EXPECT_EQ(ThreadCount(0, 2'000'000), 1);
  EXPECT_EQ(ThreadCount(0, 7'000'000), std::min(2, cores));
  EXPECT_EQ(ThreadCount(0, int64_t{1} << 40), cores);
}

TEST(ThreadTeamTest, EveryIndexIsVisitedOnce) {
  ThreadTeam team(4);
  for (const int64_t count : {0, 1, 3, 4, 5, 1000}) {
    std::vector<std::atomic<int>> visits(count);
    for (int round = 0; round < 100; ++round) {
      team.ParallelFor(count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++visits[i];
      });
    }
    for (const std::atomic<int>& visited : visits) EXPECT_EQ(visited, 100);
  }
}

TEST(ThreadTeamTest, SmallLoopsAndLoopsWithinLoopsStayOnTheirThread) {
  ThreadTeam team(4);
  int calls = 0;
  team.ParallelFor(100, 60, [&](int64_t begin, int64_t end) { calls += begin == 0 && end == 100; });
  EXPECT_EQ(calls, 1);
  std::atomic<int> inner{0};
  team.ParallelFor(4, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const std::thread::id outer = std::this_thread::get_id();
      team.ParallelFor(8, 1, [&](int64_t from, int64_t to) {
        inner += static_cast<int>(to - from) * (std::this_thread::get_id() == outer);
      });
    }
  });
  EXPECT_EQ(inner, 32);
}

TEST(ThreadTeamTest, TwoCallersDoNotDisturbEachOther) {
  ThreadTeam team(3);
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        team.ParallelFor(30, 1, [&](int64_t begin, int64_t end) { total += end - begin; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total, 3 * 500 * 30);
}

}  // namespace
}  // namespace nabla::kernels
