// One way for a request to be told to stop: cancelled by its caller, past its deadline, or the process shutting down.
// Strategies look at it between decode steps and between gradient steps.
//
//   StopToken stop(absl::Now() + absl::Seconds(30));
//   NABLA_RETURN_IF_ERROR(stop.Check());   // CANCELLED, UNAVAILABLE or DEADLINE_EXCEEDED once it is time to stop
//
// Thread-safe; never blocks. The first reason given to Stop() wins.
#ifndef NABLA_ENGINE_BASE_STOP_TOKEN_H_
#define NABLA_ENGINE_BASE_STOP_TOKEN_H_

#include <atomic>
#include <chrono>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace nabla {

// A stop token has no one to tell; this is how often a thread that waits for something else looks at it.
inline constexpr std::chrono::milliseconds kLookAtStop(20);

class StopToken {
 public:
  explicit StopToken(absl::Time deadline = absl::InfiniteFuture()) : deadline_(deadline) {}
  StopToken(const StopToken&) = delete;
  StopToken& operator=(const StopToken&) = delete;

  enum class Reason { kNone = 0, kCancelled, kShutdown };

  void Stop(Reason reason) {
    Reason none = Reason::kNone;
    reason_.compare_exchange_strong(none, reason, std::memory_order_relaxed);
  }

  absl::Status Check() const {
    switch (reason_.load(std::memory_order_relaxed)) {
      case Reason::kCancelled:
        return absl::CancelledError("the request was cancelled by its caller");
      case Reason::kShutdown:
        return absl::UnavailableError("the server is shutting down; retry on another server");
      case Reason::kNone:
        break;
    }
    if (absl::Now() >= deadline_) return absl::DeadlineExceededError("the request's deadline has passed");
    return absl::OkStatus();
  }

  absl::Time deadline() const { return deadline_; }

 private:
  const absl::Time deadline_;
  std::atomic<Reason> reason_{Reason::kNone};
};

}  // namespace nabla

#endif  // NABLA_ENGINE_BASE_STOP_TOKEN_H_
