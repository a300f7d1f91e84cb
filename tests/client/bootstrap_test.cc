#include "client/cli/bootstrap.h"

#include <gtest/gtest.h>

#include <cmath>

namespace nabla {
namespace {

TEST(BootstrapTest, OfNothingAndOfEqualValues) {
  EXPECT_EQ(EstimateMean({}).high, 0);
  const Estimate same = EstimateMean(std::vector<double>(5, 2.0));
  EXPECT_EQ(same.mean, 2);
  EXPECT_EQ(same.low, 2);
  EXPECT_EQ(same.high, 2);
}

// A share of 0.3 among 1,000 has a standard error of √(0.3 · 0.7 / 1000) = 0.0145; the interval reaches 1.96 of them.
TEST(BootstrapTest, AgreesWithTheNormalApproximation) {
  std::vector<double> values(1000, 0.0);
  for (size_t i = 0; i < 300; ++i) values[i] = 1;
  const Estimate share = EstimateMean(values);
  const double reach = 1.96 * std::sqrt(0.3 * 0.7 / 1000);
  EXPECT_DOUBLE_EQ(share.mean, 0.3);
  EXPECT_NEAR(share.low, 0.3 - reach, 0.1 * reach);
  EXPECT_NEAR(share.high, 0.3 + reach, 0.1 * reach);
}

TEST(BootstrapTest, TheSameNumbersGiveTheSameInterval) {
  const std::vector<double> values = {1, 0, 0, 1, 1, 0, -1};
  EXPECT_EQ(EstimateMean(values).low, EstimateMean(values).low);
}

}  // namespace
}  // namespace nabla
