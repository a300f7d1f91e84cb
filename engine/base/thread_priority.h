// Who goes first where threads are more than cores.
//
//   std::thread execution([] {
//     LowerThreadPriority();
//     while (…) …, GiveWay();   // every 100 microseconds or so
//   });
//
// Threads that compute step behind those that bring requests and carry tokens away, which run for microseconds: the
// scheduler otherwise lets a computing thread finish its time slice first (2 cores, a request of small models that
// refines: an event is with its reader within 0.7 instead of 2.3 ms, at the 99th percentile; as many tokens a second).
// A thread that is woken on a core which computes may wait for the next tick all the same, up to 4 ms, unless the
// computing thread gives way (2 cores, a stream of SmolLM2 on both: 0.6 instead of 5.6 ms). The longest time slice for
// threads that compute (sched_setattr, Linux 6.12) spares that wait too, but costs requests of small models 2 %.
#ifndef NABLA_ENGINE_BASE_THREAD_PRIORITY_H_
#define NABLA_ENGINE_BASE_THREAD_PRIORITY_H_

#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#endif

#include <algorithm>
#include <chrono>

namespace nabla {

// Of this thread alone, and of those that it starts from now on. Never raises it.
inline void LowerThreadPriority() {
#if defined(__linux__)
  constexpr int kNice = 10;
  setpriority(PRIO_PROCESS, 0, std::max(getpriority(PRIO_PROCESS, 0), kNice));  // this thread's, on Linux
#endif
}

// Lets threads that are waiting for this core run first, if it has been a while since the last time: most calls read a
// clock and no more. Not more often, for who gives way to another that computes gets nothing until that one's time
// slice is over.
inline void GiveWay() {
#if defined(__linux__)
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds kPeriod(200);
  thread_local Clock::time_point next;
  const Clock::time_point now = Clock::now();
  if (now < next) return;
  sched_yield();
  next = now + kPeriod;
#endif
}

}  // namespace nabla

#endif  // NABLA_ENGINE_BASE_THREAD_PRIORITY_H_
