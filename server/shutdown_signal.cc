#include "server/shutdown_signal.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>

namespace nabla {
namespace {

int signal_pipe[2];

void OnSignal(int /*signal*/) {
  const char byte = 0;
  static_cast<void>(!write(signal_pipe[1], &byte, 1));
}

}  // namespace

absl::Status CatchShutdownSignals() {
  if (pipe(signal_pipe) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe for signals");
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  return absl::OkStatus();
}

void AwaitShutdownSignal() {
  char byte = 0;
  while (read(signal_pipe[0], &byte, 1) < 0 && errno == EINTR) {
  }
}

}  // namespace nabla
