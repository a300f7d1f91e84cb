// SIGTERM and SIGINT as something to wait for. The first of each is caught; a second one ends the process at once.
//
//   NABLA_RETURN_IF_ERROR(CatchShutdownSignals());
//   AwaitShutdownSignal();   // blocks
//   server->Drain();
//
// Once a process; the main thread waits, any thread may wake it.
#ifndef NABLA_SERVER_SHUTDOWN_SIGNAL_H_
#define NABLA_SERVER_SHUTDOWN_SIGNAL_H_

#include "absl/status/status.h"

namespace nabla {

absl::Status CatchShutdownSignals();

// Blocks until a signal comes, true, or somebody wakes it, false; whichever was first. Each ends one wait.
bool AwaitShutdownSignal();

void WakeShutdownWaiter();

}  // namespace nabla

#endif  // NABLA_SERVER_SHUTDOWN_SIGNAL_H_
