#include "server/shutdown_signal.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <iostream>
#include <thread>

#include "absl/time/clock.h"

namespace nabla {
namespace {

// What the waiter is woken by, as bytes in a pipe: all that a signal handler may do is write.
constexpr char kSignal = 's';
constexpr char kWake = 'w';

int event_pipe[2];

void Post(char event) { static_cast<void>(!write(event_pipe[1], &event, 1)); }

std::atomic<bool> caught = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void OnSignal(int signal) {
  if (caught.exchange(true)) _exit(128 + signal);
  Post(kSignal);
}

}  // namespace

absl::Status CatchShutdownSignals() {
  if (pipe(event_pipe) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe for signals");
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  return absl::OkStatus();
}

bool AwaitShutdownSignal() {
  char event = kSignal;
  while (read(event_pipe[0], &event, 1) < 0 && errno == EINTR) {
  }
  return event == kSignal;
}

void WakeShutdownWaiter() { Post(kWake); }

void LoadUnlessStopped(const std::function<void()>& load, const std::function<void()>& drain) {
  std::thread loader([&load] {
    load();
    WakeShutdownWaiter();
  });
  if (AwaitShutdownSignal()) {
    drain();
    std::cout << "stopped while loading" << std::endl;
    _exit(0);
  }
  loader.join();
}

absl::Status ServeUntilStopped(absl::Duration drain_timeout, absl::string_view lost,
                               const std::function<void()>& drain) {
  std::cout << "ready" << std::endl;
  const bool signalled = AwaitShutdownSignal();
  std::cout << "draining" << std::endl;
  std::thread([limit = drain_timeout + kDrainGrace] {
    absl::SleepFor(limit);
    std::cerr << "the drain has not come to its end; ending the process" << std::endl;
    _exit(1);
  }).detach();
  drain();
  return signalled ? absl::OkStatus() : absl::UnavailableError(lost);
}

}  // namespace nabla
