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
// clock and no more. Who gives way to another program that computes gets nothing until that one's time slice is over,
// milliseconds later; then it is put off for as long again, and for longer each time that this follows itself, up to
// twenty times as long. (2 cores of an Intel Xeon beside two endless loops: requests of small models take 0.3 to 0.4 s;
// giving way every time, 17 s, and more if they refine.) Once is no sign of such a program: two threads of a team may
// meet on a core.
inline void GiveWay() {
#if defined(__linux__)
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds kPeriod(200), kLongestOfWaiters(1000);
  constexpr int kLongestPutOff = 20;
  thread_local Clock::time_point next;
  thread_local int put_off = 0;
  const Clock::time_point start = Clock::now();
  if (start < next) return;
  sched_yield();
  const Clock::time_point end = Clock::now();
  put_off = end - start > kLongestOfWaiters ? std::min(2 * put_off + 1, kLongestPutOff) : 0;
  next = end + std::max<Clock::duration>(put_off * (end - start), kPeriod);
#endif
}

}  // namespace nabla

#endif  // NABLA_ENGINE_BASE_THREAD_PRIORITY_H_
