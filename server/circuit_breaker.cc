#include "server/circuit_breaker.h"

#include <algorithm>

namespace nabla {

std::optional<CircuitBreaker::Permit> CircuitBreaker::TryBegin() {
  const std::lock_guard<std::mutex> lock(mu_);
  if (failures_ < options_.max_failures) return Permit{};
  if (trying_ || options_.now() < open_until_) return std::nullopt;
  trying_ = true;
  return Permit{.tries = true};
}

void CircuitBreaker::End(Permit permit, Outcome outcome) {
  const std::lock_guard<std::mutex> lock(mu_);
  if (permit.tries) trying_ = false;
  if (outcome == Outcome::kAnswered) failures_ = 0;
  if (outcome != Outcome::kFailed) return;
  ++failures_;
  if (failures_ >= options_.max_failures) open_until_ = options_.now() + options_.cool_down;
}

absl::Duration CircuitBreaker::cool_down_left() const {
  const std::lock_guard<std::mutex> lock(mu_);
  if (failures_ < options_.max_failures) return absl::ZeroDuration();
  return std::max(absl::ZeroDuration(), open_until_ - options_.now());
}

int CircuitBreaker::failures() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return failures_;
}

}  // namespace nabla
