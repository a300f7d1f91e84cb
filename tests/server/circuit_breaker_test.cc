#include "server/circuit_breaker.h"

#include <gtest/gtest.h>

namespace nabla {
namespace {

using Outcome = CircuitBreaker::Outcome;

class CircuitBreakerTest : public testing::Test {
 protected:
  void FailTimes(int times) {
    for (int i = 0; i < times; ++i) {
      ASSERT_TRUE(breaker_.TryBegin());
      breaker_.End(Outcome::kFailed);
    }
  }

  absl::Time now_ = absl::UnixEpoch();
  CircuitBreaker breaker_{{.max_failures = 3, .cool_down = absl::Seconds(2), .now = [this] { return now_; }}};
};

TEST_F(CircuitBreakerTest, OpensAfterFailuresInARow) {
  FailTimes(2);
  EXPECT_TRUE(breaker_.TryBegin());
  breaker_.End(Outcome::kAnswered);
  FailTimes(3);
  EXPECT_FALSE(breaker_.TryBegin());
  EXPECT_EQ(breaker_.failures(), 3);
  EXPECT_EQ(breaker_.cool_down_left(), absl::Seconds(2));
}

TEST_F(CircuitBreakerTest, LetsOneCallTryAfterTheCoolDown) {
  FailTimes(3);
  now_ += absl::Seconds(2);
  EXPECT_TRUE(breaker_.TryBegin());
  EXPECT_FALSE(breaker_.TryBegin());
  breaker_.End(Outcome::kFailed);
  EXPECT_FALSE(breaker_.TryBegin()) << "it cools down anew";
  now_ += absl::Seconds(2);
  EXPECT_TRUE(breaker_.TryBegin());
  breaker_.End(Outcome::kAnswered);
  EXPECT_TRUE(breaker_.TryBegin());
  EXPECT_TRUE(breaker_.TryBegin());
}

TEST_F(CircuitBreakerTest, ACallGivenUpTellsNothingButLetsTheNextOneTry) {
  FailTimes(3);
  now_ += absl::Seconds(2);
  EXPECT_TRUE(breaker_.TryBegin());
  breaker_.End(Outcome::kUnknown);
  EXPECT_EQ(breaker_.failures(), 3);
  EXPECT_TRUE(breaker_.TryBegin());
}

TEST_F(CircuitBreakerTest, FailuresOfCallsBegunBeforeItOpenedProlongTheCoolDown) {
  ASSERT_TRUE(breaker_.TryBegin());
  FailTimes(3);
  now_ += absl::Seconds(1);
  breaker_.End(Outcome::kFailed);
  now_ += absl::Seconds(1);
  EXPECT_FALSE(breaker_.TryBegin());
  now_ += absl::Seconds(1);
  EXPECT_TRUE(breaker_.TryBegin());
}

}  // namespace
}  // namespace nabla
