#include "server/circuit_breaker.h"

#include <gtest/gtest.h>

namespace nabla {
namespace {

using Outcome = CircuitBreaker::Outcome;

using Permit = CircuitBreaker::Permit;

class CircuitBreakerTest : public testing::Test {
 protected:
  void FailTimes(int times) {
    for (int i = 0; i < times; ++i) {
      const auto permit = breaker_.TryBegin();
      ASSERT_TRUE(permit.has_value());
      breaker_.End(*permit, Outcome::kFailed);
    }
  }

  absl::Time now_ = absl::UnixEpoch();
  CircuitBreaker breaker_{{.max_failures = 3, .cool_down = absl::Seconds(2), .now = [this] { return now_; }}};
};

TEST_F(CircuitBreakerTest, OpensAfterFailuresInARow) {
  FailTimes(2);
  const std::optional<Permit> permit = breaker_.TryBegin();
  ASSERT_TRUE(permit.has_value());
  breaker_.End(*permit, Outcome::kAnswered);
  FailTimes(3);
  EXPECT_FALSE(breaker_.TryBegin());
  EXPECT_EQ(breaker_.failures(), 3);
  EXPECT_EQ(breaker_.cool_down_left(), absl::Seconds(2));
}

TEST_F(CircuitBreakerTest, LetsOneCallTryAfterTheCoolDown) {
  FailTimes(3);
  now_ += absl::Seconds(2);
  std::optional<Permit> permit = breaker_.TryBegin();
  ASSERT_TRUE(permit.has_value());
  EXPECT_FALSE(breaker_.TryBegin());
  breaker_.End(*permit, Outcome::kFailed);
  EXPECT_FALSE(breaker_.TryBegin()) << "it cools down anew";
  now_ += absl::Seconds(2);
  permit = breaker_.TryBegin();
  ASSERT_TRUE(permit.has_value());
  breaker_.End(*permit, Outcome::kAnswered);
  EXPECT_TRUE(breaker_.TryBegin());
  EXPECT_TRUE(breaker_.TryBegin());
}

TEST_F(CircuitBreakerTest, ACallGivenUpTellsNothingButLetsTheNextOneTry) {
  FailTimes(3);
  now_ += absl::Seconds(2);
  const std::optional<Permit> permit = breaker_.TryBegin();
  ASSERT_TRUE(permit.has_value());
  breaker_.End(*permit, Outcome::kUnknown);
  EXPECT_EQ(breaker_.failures(), 3);
  EXPECT_TRUE(breaker_.TryBegin());
}

TEST_F(CircuitBreakerTest, FailuresOfCallsBegunBeforeItOpenedProlongTheCoolDown) {
  const std::optional<Permit> early = breaker_.TryBegin();
  ASSERT_TRUE(early.has_value());
  FailTimes(3);
  now_ += absl::Seconds(1);
  breaker_.End(*early, Outcome::kFailed);
  now_ += absl::Seconds(1);
  EXPECT_FALSE(breaker_.TryBegin());
  now_ += absl::Seconds(1);
  EXPECT_TRUE(breaker_.TryBegin());
}

TEST_F(CircuitBreakerTest, TheEndOfACallBegunBeforeItOpenedLetsNoSecondOneTry) {
  const std::optional<Permit> early = breaker_.TryBegin();
  ASSERT_TRUE(early.has_value());
  FailTimes(3);
  now_ += absl::Seconds(2);
  EXPECT_TRUE(breaker_.TryBegin());
  breaker_.End(*early, Outcome::kUnknown);
  EXPECT_FALSE(breaker_.TryBegin());
}

}  // namespace
}  // namespace nabla
