// Keeps callers from a service that does not answer: after some failures in a row they are refused at once for a while,
// then one of them tries.
//
//   const std::optional<CircuitBreaker::Permit> permit = breaker.TryBegin();
//   if (!permit.has_value()) return absl::UnavailableError("…");
//   breaker.End(*permit, Call() ? CircuitBreaker::Outcome::kAnswered : CircuitBreaker::Outcome::kFailed);
//
// Thread-safe, never blocks. Every permit is given to End once.
#ifndef NABLA_SERVER_CIRCUIT_BREAKER_H_
#define NABLA_SERVER_CIRCUIT_BREAKER_H_

#include <functional>
#include <mutex>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace nabla {

class CircuitBreaker {
 public:
  struct Options {
    int max_failures = 5;                         // in a row; then it opens
    absl::Duration cool_down = absl::Seconds(1);  // how long it stays open
    std::function<absl::Time()> now = absl::Now;
  };
  struct Permit {
    bool tries = false;  // the one call that tests whether the service is back
  };
  enum class Outcome {
    kAnswered,  // by an error, too: the service is there
    kFailed,
    kUnknown,  // the caller gave up
  };

  explicit CircuitBreaker(Options options) : options_(std::move(options)) {}

  // Nothing: the call may not be made. After the cool-down one call may, and the others once it was answered.
  std::optional<Permit> TryBegin();
  void End(Permit permit, Outcome outcome);

  // Until the next call may be made; 0 where one may now.
  absl::Duration cool_down_left() const;
  int failures() const;  // in a row

 private:
  const Options options_;
  mutable std::mutex mu_;
  int failures_ ABSL_GUARDED_BY(mu_) = 0;
  bool trying_ ABSL_GUARDED_BY(mu_) = false;  // a permit that tries is out
  absl::Time open_until_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
};

}  // namespace nabla

#endif  // NABLA_SERVER_CIRCUIT_BREAKER_H_
