#include "engine/kernels/thread_team.h"

#include <algorithm>

namespace nabla {
namespace {

// About 20 µs: longer than the gap between two loops of a pass, shorter than what anybody would miss.
constexpr int kLooksBeforeSleep = 500;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Waits until `value` is something else than `old`.
void AwaitChange(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kLooksBeforeSleep; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    Pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadTeam::ThreadTeam(int threads) {
  if (threads == 0) threads = static_cast<int>(std::thread::hardware_concurrency());
  for (int part = 1; part < threads; ++part) helpers_.emplace_back([this, part] { Help(part); });
}

ThreadTeam::~ThreadTeam() {
  stopping_ = true;
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadTeam::ParallelFor(int64_t count, int64_t grain,
                             const std::function<void(int64_t begin, int64_t end)>& body) {
  const int64_t parts = std::min<int64_t>(size(), count / std::max<int64_t>(grain, 1));
  if (parts <= 1 || !busy_.try_lock()) {
    if (count > 0) body(0, count);
    return;
  }
  loop_ = {.body = &body, .count = count, .parts = parts};
  working_.store(static_cast<uint32_t>(helpers_.size()), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  RunPart(loop_, 0);
  for (uint32_t left = working_.load(std::memory_order_acquire); left != 0;
       left = working_.load(std::memory_order_acquire)) {
    AwaitChange(working_, left);
  }
  busy_.unlock();
}

void ThreadTeam::RunPart(const Loop& loop, int64_t part) {
  if (part >= loop.parts) return;
  (*loop.body)(loop.count * part / loop.parts, loop.count * (part + 1) / loop.parts);
}

void ThreadTeam::Help(int64_t part) {
  for (uint32_t round = 0;; ++round) {
    AwaitChange(round_, round);
    if (stopping_) return;
    RunPart(loop_, part);
    if (working_.fetch_sub(1, std::memory_order_release) == 1) working_.notify_one();
  }
}

}  // namespace nabla
