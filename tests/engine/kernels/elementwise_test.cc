#include "engine/kernels/elementwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "engine/kernels/backward.h"
#include "tests/engine/kernels/kernels_fixture.h"

namespace nabla::kernels {
namespace {

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

}  // namespace
}  // namespace nabla::kernels
