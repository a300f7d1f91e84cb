// A few threads that carry what calls have to say to gRPC, so that an engine's execution thread never does.
//
//   WriteQueue writers(/*threads=*/1);
//   writers.Schedule(call);   // soon one of the threads calls call->Write()
//
// Threads write in rounds, whose length goes by what they write: see write_queue.cc. Schedule is constant time (one
// short lock; the thread is woken only where it sleeps) and safe from any thread. A job is kept alive while it is
// scheduled. Jobs that are scheduled several times at once run at the same time: they see to it themselves. Destruction
// runs what is scheduled, then joins the threads.
#ifndef NABLA_SERVER_WRITE_QUEUE_H_
#define NABLA_SERVER_WRITE_QUEUE_H_

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"

namespace nabla {

class WriteJob {
 public:
  virtual ~WriteJob() = default;
  virtual void Write() = 0;  // must not block
};

class WriteQueue {
 public:
  explicit WriteQueue(int threads);
  ~WriteQueue();
  WriteQueue(const WriteQueue&) = delete;
  WriteQueue& operator=(const WriteQueue&) = delete;

  void Schedule(std::shared_ptr<WriteJob> job);

 private:
  void Work();

  std::mutex mu_;
  std::condition_variable scheduled_, pause_;
  std::deque<std::shared_ptr<WriteJob>> jobs_ ABSL_GUARDED_BY(mu_);
  int sleeping_ ABSL_GUARDED_BY(mu_) = 0;  // threads that wait and that nobody has woken yet
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace nabla

#endif  // NABLA_SERVER_WRITE_QUEUE_H_
