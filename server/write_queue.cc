#include "server/write_queue.h"

#include <utility>

namespace nabla {

WriteQueue::WriteQueue(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

WriteQueue::~WriteQueue() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    ending_ = true;
  }
  scheduled_.notify_all();
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
  while (true) {
    std::shared_ptr<WriteJob> job;
    {
      std::unique_lock<std::mutex> lock(mu_);
      while (jobs_.empty() && !ending_) {
        ++sleeping_;
        scheduled_.wait(lock);
      }
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job->Write();
  }
}

}  // namespace nabla
