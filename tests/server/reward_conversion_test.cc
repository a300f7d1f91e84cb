#include "server/reward_conversion.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace nabla {
namespace {

using Numbers = v1::ScoreGradientRequest;

std::vector<float> RoundTrip(const std::vector<float>& numbers, Numbers::NumberType type) {
  std::string bytes;
  PackFloats(numbers, type, &bytes);
  return UnpackFloats(bytes, type, numbers.size()).value();
}

TEST(RewardConversionTest, Float32KeepsEveryBit) {
  const std::vector<float> numbers = {0.1f, -3.4e38f, 1e-45f, std::numeric_limits<float>::infinity(), -0.0f};
  EXPECT_EQ(RoundTrip(numbers, Numbers::FLOAT32), numbers);
  EXPECT_EQ(RoundTrip(numbers, Numbers::NUMBER_TYPE_UNSPECIFIED), numbers);
  EXPECT_TRUE(std::signbit(RoundTrip(numbers, Numbers::FLOAT32)[4]));
}

TEST(RewardConversionTest, Bfloat16RoundsToNearestTiesToEven) {
  // Eight bits of precision: 1 + 1/128 is one, 1 + 1/256 lies in the middle of two.
  const std::vector<float> numbers = {1.0f + 1.0f / 256, 1.0f + 3.0f / 256, 1.0f + 1.0f / 256 + 1e-6f, -2.5f};
  const std::vector<float> expected = {1.0f, 1.0f + 4.0f / 256, 1.0f + 2.0f / 256, -2.5f};
  EXPECT_EQ(RoundTrip(numbers, Numbers::BFLOAT16), expected);
  const std::vector<float> odd = RoundTrip({std::nanf("1"), std::numeric_limits<float>::infinity()}, Numbers::BFLOAT16);
  EXPECT_TRUE(std::isnan(odd[0]));
  EXPECT_TRUE(std::isinf(odd[1]));
}

TEST(RewardConversionTest, BytesThatAreNotTheNumbersExpectedAreAnError) {
  EXPECT_EQ(UnpackFloats("12345678", Numbers::FLOAT32, 3).status(),
            absl::InternalError("the reward service sent 8 bytes of numbers where 12 were expected"));
  EXPECT_EQ(UnpackFloats("12345678", Numbers::BFLOAT16, 3).status(),
            absl::InternalError("the reward service sent 8 bytes of numbers where 6 were expected"));
}

}  // namespace
}  // namespace nabla
