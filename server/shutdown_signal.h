// SIGTERM and SIGINT as something to wait for. The first of each is caught; a second one ends the process at once.
//
//   NABLA_RETURN_IF_ERROR(CatchShutdownSignals());
//   AwaitShutdownSignal();   // blocks
//   EndProcessAfter(drain_timeout + kDrainGrace);
//   server->Drain();
//
// Once a process; the main thread waits, any thread may wake it.
#ifndef NABLA_SERVER_SHUTDOWN_SIGNAL_H_
#define NABLA_SERVER_SHUTDOWN_SIGNAL_H_

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace nabla {

// How long, behind the drain timeout, what was told to stop may take to notice.
inline constexpr absl::Duration kDrainGrace = absl::Seconds(30);

absl::Status CatchShutdownSignals();

// Blocks until a signal comes, true, or somebody wakes it, false; whichever was first. Each ends one wait.
bool AwaitShutdownSignal();

void WakeShutdownWaiter();

// Ends the process with exit status 1 once `limit` has passed, whatever hangs: a drain waits for the device.
void EndProcessAfter(absl::Duration limit);

}  // namespace nabla

#endif  // NABLA_SERVER_SHUTDOWN_SIGNAL_H_
