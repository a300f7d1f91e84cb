// Who goes first where threads are more than cores.
//
//   std::thread execution([] { LowerThreadPriority(); … });
//
// Threads that compute step behind those that bring requests and carry tokens away, which run for microseconds: the
// scheduler otherwise lets a computing thread finish its time slice first (2 cores, a request that refines: an event is
// with its reader within 0.7 instead of 2.3 ms, at the 99th percentile; as many tokens a second).
#ifndef NABLA_ENGINE_BASE_THREAD_PRIORITY_H_
#define NABLA_ENGINE_BASE_THREAD_PRIORITY_H_

#if defined(__linux__)
#include <sys/resource.h>
#endif

#include <algorithm>

namespace nabla {

// Of this thread alone, and of those that it starts from now on. Never raises it.
inline void LowerThreadPriority() {
#if defined(__linux__)
  constexpr int kNice = 10;
  setpriority(PRIO_PROCESS, 0, std::max(getpriority(PRIO_PROCESS, 0), kNice));  // this thread's, on Linux
#endif
}

}  // namespace nabla

#endif  // NABLA_ENGINE_BASE_THREAD_PRIORITY_H_
