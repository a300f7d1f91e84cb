#include "engine/pool/reward_connection.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"

namespace nabla {
namespace {

// What every attempt to connect comes to is the test's to say.
class RewardConnectionTest : public testing::Test {
 protected:
  void SetUp() override {
    connection_ = RewardConnection::Create([this](const StopToken* stop) { return Connect(stop); }).value();
    first_ = connection_->current();
  }

  absl::StatusOr<std::shared_ptr<const Reward>> Connect(const StopToken* stop) {
    const int attempt = ++attempts_;
    if (attempt == 2 && held_) {
      connecting_.Notify();
      go_on_.WaitForNotification();
    }
    if (stop != nullptr && !stop->Check().ok()) return stop->Check();
    if (!failure_.ok()) return failure_;
    return std::make_shared<const Reward>();
  }

  std::unique_ptr<RewardConnection> connection_;
  std::shared_ptr<const Reward> first_;
  std::atomic<int> attempts_{0};
  bool held_ = false;
  absl::Notification connecting_, go_on_;
  absl::Status failure_;
  StopToken stop_;
};

TEST_F(RewardConnectionTest, WhatCannotBeConnectedToAtFirstIsNoConnection) {
  const absl::Status status = absl::UnavailableError("nobody there");
  EXPECT_EQ(RewardConnection::Create([&](const StopToken*) { return status; }).status(), status);
}

TEST_F(RewardConnectionTest, IsRenewedOnceForAllWhoHaveLostTheSame) {
  const std::shared_ptr<const Reward> second = connection_->Renew(*first_, stop_).value();
  EXPECT_NE(second, first_);
  EXPECT_EQ(connection_->current(), second);
  EXPECT_EQ(connection_->Renew(*first_, stop_).value(), second);
  EXPECT_EQ(attempts_, 2);
  EXPECT_NE(connection_->Renew(*second, stop_).value(), second);
  EXPECT_EQ(attempts_, 3);
}

TEST_F(RewardConnectionTest, AFailureLeavesWhatThereWasAndMayBeTriedAgain) {
  failure_ = absl::UnavailableError("nobody there");
  EXPECT_EQ(connection_->Renew(*first_, stop_).status(), failure_);
  EXPECT_EQ(connection_->current(), first_);
  failure_ = absl::OkStatus();
  EXPECT_TRUE(connection_->Renew(*first_, stop_).ok());
}

// Requests that wait for the attempt of another share what comes of it.
class WaitingRewardConnectionTest : public RewardConnectionTest {
 protected:
  void SetUp() override {
    held_ = true;
    RewardConnectionTest::SetUp();
    for (int i = 0; i < 4; ++i) Start(stop_);
    connecting_.WaitForNotification();
  }
  void Start(const StopToken& stop) {
    threads_.emplace_back([&, &result = results_.emplace_back()] { result = connection_->Renew(*first_, stop); });
  }
  void End() {
    go_on_.Notify();
    for (std::thread& thread : threads_) thread.join();
  }

  std::deque<absl::StatusOr<std::shared_ptr<const Reward>>> results_;
  std::vector<std::thread> threads_;
};

TEST_F(WaitingRewardConnectionTest, ShareTheNewOne) {
  End();
  for (const auto& result : results_) EXPECT_EQ(result.value(), connection_->current());
  EXPECT_EQ(attempts_, 2);
}

TEST_F(WaitingRewardConnectionTest, ShareTheFailure) {
  failure_ = absl::UnavailableError("nobody there");
  End();
  for (const auto& result : results_) EXPECT_EQ(result.status(), failure_);
}

TEST_F(WaitingRewardConnectionTest, ThatAreStoppedDoNotWait) {
  const StopToken expired(absl::InfinitePast());
  EXPECT_EQ(connection_->Renew(*first_, expired).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(attempts_, 2);
  End();
}

}  // namespace
}  // namespace nabla
