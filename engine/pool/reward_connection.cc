#include "engine/pool/reward_connection.h"

#include <utility>

#include "engine/base/status_macros.h"

namespace nabla {

absl::StatusOr<std::unique_ptr<RewardConnection>> RewardConnection::Create(Connect connect) {
  NABLA_ASSIGN_OR_RETURN(std::shared_ptr<const Reward> first, connect(/*stop=*/nullptr));
  return std::unique_ptr<RewardConnection>(new RewardConnection(std::move(connect), std::move(first)));
}

std::shared_ptr<const Reward> RewardConnection::current() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return current_;
}

absl::StatusOr<std::shared_ptr<const Reward>> RewardConnection::Renew(const Reward& lost, const StopToken& stop) {
  std::unique_lock<std::mutex> lock(mu_);
  for (const int failures = failures_; connecting_;) {
    ended_.wait_for(lock, kLookAtStop);
    NABLA_RETURN_IF_ERROR(stop.Check());
    if (failures_ != failures) return failure_;
  }
  if (current_.get() != &lost) return current_;
  connecting_ = true;
  lock.unlock();
  absl::StatusOr<std::shared_ptr<const Reward>> renewed = connect_(&stop);
  lock.lock();
  connecting_ = false;
  if (renewed.ok()) {
    current_ = *renewed;
  } else if (stop.Check().ok()) {
    ++failures_;
    failure_ = renewed.status();
  }
  ended_.notify_all();
  return renewed;
}

}  // namespace nabla
