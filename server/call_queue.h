// Threads that run calls which block, and a bounded line in front of them.
//
//   CallQueue queue({.threads = 64, .max_waiting = 256});
//   NABLA_RETURN_IF_ERROR(queue.Submit([=] { call->Finish(Answer()); }));
//
// Thread-safe. Submit never blocks. Destruction runs what is still in line and joins the threads.
#ifndef NABLA_SERVER_CALL_QUEUE_H_
#define NABLA_SERVER_CALL_QUEUE_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"

namespace nabla {

class CallQueue {
 public:
  struct Options {
    int threads = 64;       // calls that run at once; started as they are needed
    int max_waiting = 256;  // more are refused
  };
  using Work = std::function<void()>;

  explicit CallQueue(Options options) : options_(options) {}
  ~CallQueue();
  CallQueue(const CallQueue&) = delete;
  CallQueue& operator=(const CallQueue&) = delete;

  // RESOURCE_EXHAUSTED where the line is full; then `work` is not run.
  absl::Status Submit(Work work);

  int running() const;
  int waiting() const;

 private:
  void RunWork();

  const Options options_;
  mutable std::mutex mu_;
  std::condition_variable changed_;
  std::deque<Work> waiting_ ABSL_GUARDED_BY(mu_);
  int running_ ABSL_GUARDED_BY(mu_) = 0;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
};

}  // namespace nabla

#endif  // NABLA_SERVER_CALL_QUEUE_H_
