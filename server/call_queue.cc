#include "server/call_queue.h"

#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace nabla {

CallQueue::~CallQueue() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    ending_ = true;
    threads.swap(threads_);
    changed_.notify_all();
  }
  for (std::thread& thread : threads) thread.join();
}

absl::Status CallQueue::Submit(Work work) {
  const std::lock_guard<std::mutex> lock(mu_);
  const int open = running_ + static_cast<int>(waiting_.size());
  if (open >= options_.threads + options_.max_waiting) {
    return absl::ResourceExhaustedError(absl::StrCat("the reward service is full (", options_.threads,
                                                     " calls running, ", options_.max_waiting,
                                                     " waiting); retry later"));
  }
  const int threads = static_cast<int>(threads_.size());
  if (open >= threads && threads < options_.threads) {
    try {
      threads_.emplace_back([this] { RunWork(); });
    } catch (const std::system_error&) {
      // The system has no more threads: the call waits for one that there is.
      if (threads == 0) return absl::ResourceExhaustedError("the reward service could start no thread; retry later");
    }
  }
  waiting_.push_back(std::move(work));
  changed_.notify_one();
  return absl::OkStatus();
}

int CallQueue::running() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return running_;
}

int CallQueue::waiting() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return static_cast<int>(waiting_.size());
}

void CallQueue::RunWork() {
  std::unique_lock<std::mutex> lock(mu_);
  while (true) {
    changed_.wait(lock, [this] { return !waiting_.empty() || ending_; });
    if (waiting_.empty()) return;
    Work work = std::move(waiting_.front());
    waiting_.pop_front();
    ++running_;
    lock.unlock();
    work();
    work = nullptr;  // what it holds goes without the lock
    lock.lock();
    --running_;
  }
}

}  // namespace nabla
