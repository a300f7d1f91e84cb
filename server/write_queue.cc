#include "server/write_queue.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace nabla {
namespace {

// A message costs the server and its client some tens of microseconds, as much as a small model's token: so a thread
// writes one each 200 µs at most on average, and the more calls it writes to, the more of their tokens share a message.
// Nobody sees half a millisecond, nor ten. What was left of the last milliseconds may be used up at once: what has
// changed is often said in several events (2 cores of an Intel Xeon, requests of SmolLM2 that refine: an event is with
// its reader within 0.7 instead of 1.0 ms, at the 90th percentile).
constexpr std::chrono::microseconds kTimePerMessage(200), kShortestRound(500), kLongestRound(10000),
    kLongestBurst(2000);

}  // namespace

WriteQueue::WriteQueue(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

WriteQueue::~WriteQueue() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    ending_ = true;
  }
  scheduled_.notify_all();
  pause_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WriteQueue::Schedule(std::shared_ptr<WriteJob> job) {
  bool wake = false;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    jobs_.push_back(std::move(job));
    // Waking is a system call, and the engine's step has an event for each of its streams: wake for the first alone.
    wake = sleeping_ > 0;
    if (wake) --sleeping_;
  }
  if (wake) scheduled_.notify_one();
}

void WriteQueue::Work() {
  std::chrono::steady_clock::time_point next_round;
  std::unique_lock<std::mutex> lock(mu_);
  while (true) {
    while (jobs_.empty() && !ending_) {
      ++sleeping_;
      scheduled_.wait(lock);
    }
    if (jobs_.empty()) return;
    const auto start = std::chrono::steady_clock::now();
    std::deque<std::shared_ptr<WriteJob>> round;
    round.swap(jobs_);
    const auto length =
        std::clamp<std::chrono::microseconds>(round.size() * kTimePerMessage, kShortestRound, kLongestRound);
    lock.unlock();
    for (; !round.empty(); round.pop_front()) round.front()->Write();
    lock.lock();
    next_round = std::max(next_round, start - kLongestBurst) + length;
    pause_.wait_until(lock, next_round, [this] { return ending_; });
  }
}

}  // namespace nabla
