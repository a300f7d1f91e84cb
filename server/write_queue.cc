#include "server/write_queue.h"

#include <chrono>
#include <utility>

namespace nabla {
namespace {

// What a thread's round of writing takes at least. Nobody sees half a millisecond, and a small model makes a token in
// less: its tokens of one round share a message, and its execution thread is spared the waking.
constexpr std::chrono::microseconds kRoundTime(500);

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
    lock.unlock();
    for (; !round.empty(); round.pop_front()) round.front()->Write();
    lock.lock();
    pause_.wait_until(lock, start + kRoundTime, [this] { return ending_; });
  }
}

}  // namespace nabla
