#include "engine/kernels/thread_team.h"

#include <algorithm>

#include "engine/base/thread_priority.h"

namespace nabla {
namespace {

// Some 200 µs, longer than the gap between two loops of a pass and between two passes.
constexpr int kLooksBeforeSleep = 4000;
// More parts than threads even out threads that are not equally fast.
constexpr int64_t kPartsPerThread = 2;
constexpr int64_t kParametersPerThread = 4'000'000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Between two looks at what other threads have done.
void Look(int looks) {
  Pause();
  if (looks % 64 == 63) GiveWay();
}

}  // namespace

int ThreadCount(int threads, int64_t parameters) {
  if (threads > 0) return threads;
  const int64_t cores = std::max<int64_t>(std::thread::hardware_concurrency(), 1);
  return static_cast<int>(std::clamp<int64_t>(parameters / kParametersPerThread + 1, 1, cores));
}

ThreadTeam::ThreadTeam(int threads) {
  for (int i = 1; i < threads; ++i) helpers_.emplace_back([this] { Help(); });
}

ThreadTeam::~ThreadTeam() {
  stopping_ = true;
  ++round_;
  round_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadTeam::ParallelFor(int64_t count, int64_t grain, absl::FunctionRef<void(int64_t begin, int64_t end)> body) {
  const int64_t parts = std::min(kPartsPerThread * size(), count / std::max<int64_t>(grain, 1));
  if (helpers_.empty() || parts <= 1 || busy_.test_and_set(std::memory_order_acquire)) {
    if (count > 0) body(0, count);
    return GiveWay();
  }
  loop_ = {.body = &body, .count = count, .parts = static_cast<uint32_t>(parts)};
  unfinished_.store(loop_.parts, std::memory_order_relaxed);
  const uint32_t round = round_.load(std::memory_order_relaxed) + 1;
  unclaimed_.store(uint64_t{round} << 32 | loop_.parts, std::memory_order_release);
  round_.store(round);
  round_.notify_all();
  while (RunPart()) {
  }
  for (int looks = 0; unfinished_.load(std::memory_order_acquire) != 0; ++looks) {
    looks < kLooksBeforeSleep ? Look(looks) : std::this_thread::yield();
  }
  busy_.clear(std::memory_order_release);
}

// Whoever has claimed a part of a round may read its loop: the round is not over before that part is done.
bool ThreadTeam::RunPart() {
  uint64_t unclaimed = unclaimed_.load(std::memory_order_acquire);
  do {
    if (static_cast<uint32_t>(unclaimed) == 0) return false;
  } while (!unclaimed_.compare_exchange_weak(unclaimed, unclaimed - 1, std::memory_order_acq_rel,
                                             std::memory_order_acquire));
  const int64_t part = static_cast<uint32_t>(unclaimed) - 1;
  (*loop_.body)(loop_.count * part / loop_.parts, loop_.count * (part + 1) / loop_.parts);
  unfinished_.fetch_sub(1, std::memory_order_release);
  GiveWay();
  return true;
}

void ThreadTeam::Help() {
  LowerThreadPriority();
  for (uint32_t seen = 0; !stopping_;) {
    for (int looks = 0; looks < kLooksBeforeSleep && round_.load(std::memory_order_acquire) == seen; ++looks) {
      Look(looks);
    }
    round_.wait(seen, std::memory_order_acquire);
    seen = round_.load(std::memory_order_acquire);
    while (RunPart()) {
    }
  }
}

}  // namespace nabla
