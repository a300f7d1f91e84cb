#include "engine/kernels/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/kernels/linear_pairs.h"
#include "tests/engine/kernels/kernels_fixture.h"

namespace nabla::kernels {
namespace {

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
    ExpectSums(Matrix(type), input, x);
  }
  void ExpectSums(const WeightMatrix& matrix, const LinearInput& input, const std::vector<float>& x) const {
    const NumberType type = matrix.type;
    const std::vector<float> bias = Random(outputs_, 3);
    std::vector<float> out(rows_ * outputs_);
    Linear(matrix, input, bias.data(), out.data(), outputs_, 0, outputs_);
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

  void ExpectSameBits(const WeightMatrix& matrix, int64_t outputs_at_once) const {
    const std::vector<float> bias = Random(outputs_, 3);
    std::vector<float> together(rows_ * outputs_), apart(rows_ * outputs_);
    Linear(matrix, LinearInput(x_.data(), rows_, inputs_, matrix.type), bias.data(), together.data(), outputs_, 0,
           outputs_);
    for (int64_t i = 0; i < rows_; ++i) {
      const LinearInput row(x_.data() + i * inputs_, 1, inputs_, matrix.type);
      for (int64_t o = 0; o < outputs_; o += outputs_at_once) {
        Linear(matrix, row, bias.data(), apart.data() + i * outputs_, outputs_, o,
               std::min(o + outputs_at_once, outputs_));
      }
    }
    EXPECT_EQ(together, apart);
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
  for (const NumberType type : kTypes) ExpectSameBits(Matrix(type), /*outputs_at_once=*/3);
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

class PackedLinearTest : public LinearTest {
 protected:
  void SetUp() override {
    LinearTest::SetUp();
    matrix_ = Matrix(NumberType::kBfloat16);
    if (!CanPackPairs(matrix_)) GTEST_SKIP() << "this CPU has no products of packed weights";
    packed_.resize(outputs_ * inputs_);
    PackPairs(matrix_, packed_.data());
    matrix_.data = packed_.data();
    matrix_.packed = true;
  }

  std::vector<uint16_t> packed_;
  WeightMatrix matrix_;
};

TEST_P(PackedLinearTest, AgreesWithSumsInDoublePrecision) {
  ExpectSums(matrix_, LinearInput(x_.data(), rows_, inputs_, NumberType::kBfloat16), x_);
}

TEST_P(PackedLinearTest, ARowsBitsDoNotDependOnHowManyRowsThereAreNorOnHowOutputsAreDivided) {
  ExpectSameBits(matrix_, kOutputsPacked);
}

INSTANTIATE_TEST_SUITE_P(Shapes, PackedLinearTest,
                         testing::Values(Shape{1, 64, 16}, Shape{1, 70, 112}, Shape{2, 2, 32}, Shape{3, 48, 48},
                                         Shape{7, 100, 96}, Shape{16, 192, 192}, Shape{6, 3000, 16},
                                         Shape{37, 96, 240}));

}  // namespace
}  // namespace nabla::kernels
