// SIGTERM and SIGINT as something to wait for. The first is caught; a second one ends the process at once, with exit
// status 128 + its number: by itself it would not end process 1 of a container, which most of ours are.
//
//   NABLA_RETURN_IF_ERROR(CatchShutdownSignals());
//   LoadUnlessStopped([&] { engine = Engine::Create(options); }, [&] { server->Drain(); });   // blocks
//   return ServeUntilStopped(drain_timeout, "the device has failed", [&] { server->Drain(); });   // blocks
//
// Once a process; the main thread waits, any thread may wake it.
#ifndef NABLA_SERVER_SHUTDOWN_SIGNAL_H_
#define NABLA_SERVER_SHUTDOWN_SIGNAL_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace nabla {

// How long, behind the drain timeout, what was told to stop may take to notice.
inline constexpr absl::Duration kDrainGrace = absl::Seconds(30);

absl::Status CatchShutdownSignals();

// Blocks until a signal comes, true, or somebody wakes it, false; whichever was first. Each ends one wait.
bool AwaitShutdownSignal();

void WakeShutdownWaiter();

// Runs `load` on a thread of its own to its end. Where a signal comes first, drains and ends the process with exit
// status 0: loading cannot be interrupted.
void LoadUnlessStopped(const std::function<void()>& load, const std::function<void()>& drain);

// Says "ready" on standard output, waits for a signal or to be woken, then drains. UNAVAILABLE with `lost` where it was
// woken: something that cannot be served without has failed. A drain waits for the device; one that hangs ends the
// process, with exit status 1, kDrainGrace behind `drain_timeout`.
absl::Status ServeUntilStopped(absl::Duration drain_timeout, absl::string_view lost,
                               const std::function<void()>& drain);

}  // namespace nabla

#endif  // NABLA_SERVER_SHUTDOWN_SIGNAL_H_
