// A few threads that share the loops of one execution thread. No torch.
//
//   ThreadTeam team(4);
//   team.ParallelFor(outputs, /*grain=*/64, [&](int64_t begin, int64_t end) { … });
//
// A loop is cut into a few parts that whoever is awake takes one after another, so a helper that is late delays nobody;
// one that the system puts aside within a part delays that part. Helpers keep looking for the next loop for a moment
// before they sleep: handing over then costs about a microsecond; torch's own threads cost more and keep their cores
// busy for longer. Thread-safe: a loop that begins while another is under way (or within it) runs on its caller alone.
// ParallelFor blocks until the whole loop is done; `body` must not throw.
#ifndef NABLA_ENGINE_KERNELS_THREAD_TEAM_H_
#define NABLA_ENGINE_KERNELS_THREAD_TEAM_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace nabla {

// What `threads` of an engine's options means, for every library that has threads: 0 is one a core, but no more than a
// model of so many parameters keeps busy. A decode step of a model with 2 million takes 0.2 ms: a second thread makes
// it 1.1 times as fast and takes the core of those who bring requests; with 8 million it is 1.4 times, with 32 1.7
// times.
int ThreadCount(int threads, int64_t parameters);

class ThreadTeam {
 public:
  explicit ThreadTeam(int threads);  // 1 or more, the caller of a loop included
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(helpers_.size()) + 1; }

  // Calls body(begin, end) for parts of [0, count), none smaller than `grain` but the only one.
  void ParallelFor(int64_t count, int64_t grain, absl::FunctionRef<void(int64_t begin, int64_t end)> body);

 private:
  struct Loop {
    const absl::FunctionRef<void(int64_t, int64_t)>* body = nullptr;
    int64_t count = 0;
    uint32_t parts = 0;
  };

  void Help();
  bool RunPart();  // false: none is left

  std::atomic_flag busy_;
  Loop loop_;                            // constant from its round's start until all of its parts are done
  std::atomic<uint64_t> unclaimed_{0};   // parts that nobody has taken; above them, the round
  std::atomic<uint32_t> unfinished_{0};  // parts that are not done
  std::atomic<uint32_t> round_{0};       // loops begun: what helpers wait for
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> helpers_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_KERNELS_THREAD_TEAM_H_
