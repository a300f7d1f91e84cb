// Calls a function again and again from a thread of its own.
//
//   PeriodicTask watchdog(absl::Seconds(1), [this] { LookAtEngines(); });
//   watchdog.Stop();   // returns once the function is not running and will not run again
//
// Thread-safe; Stop must not be called from the function. Destruction stops.
#ifndef NABLA_SERVER_PERIODIC_TASK_H_
#define NABLA_SERVER_PERIODIC_TASK_H_

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

namespace nabla {

class PeriodicTask {
 public:
  PeriodicTask(absl::Duration period, std::function<void()> task);
  ~PeriodicTask();
  PeriodicTask(const PeriodicTask&) = delete;
  PeriodicTask& operator=(const PeriodicTask&) = delete;

  void Stop();

 private:
  std::mutex mu_;
  std::condition_variable stop_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::mutex join_mu_;
  std::thread thread_ ABSL_GUARDED_BY(join_mu_);
};

}  // namespace nabla

#endif  // NABLA_SERVER_PERIODIC_TASK_H_
