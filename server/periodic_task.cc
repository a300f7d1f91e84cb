#include "server/periodic_task.h"

#include <chrono>
#include <utility>

namespace nabla {

PeriodicTask::PeriodicTask(absl::Duration period, std::function<void()> task) {
  thread_ = std::thread([this, period = absl::ToChronoNanoseconds(period), task = std::move(task)] {
    std::unique_lock<std::mutex> lock(mu_);
    // By the system clock: ThreadSanitizer does not see waits on the steady one.
    while (!stop_.wait_until(lock, std::chrono::system_clock::now() + period, [this] { return stopping_; })) {
      lock.unlock();
      task();
      lock.lock();
    }
  });
}

PeriodicTask::~PeriodicTask() { Stop(); }

void PeriodicTask::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
  }
  stop_.notify_all();
  const std::lock_guard<std::mutex> lock(join_mu_);
  if (thread_.joinable()) thread_.join();
}

}  // namespace nabla
