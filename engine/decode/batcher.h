// The execution thread of one engine: merges what all requests want run into one forward pass a step.
//
//   Batcher batcher({.max_batch_tokens = 128});
//   NABLA_RETURN_IF_ERROR(batcher.Run(model, job));                  // blocks until the job is done
//   NABLA_RETURN_IF_ERROR(batcher.RunAlone([&] { return Gradient(); }));  // between two steps, on the same thread
//   batcher.RunWhenIdle([=] { … });                                  // returns at once
//
// Continuous batching: a job joins before the next step and leaves with its last one. Passes that only one request can
// use (gradients) run alone between two steps, and decoding then gets at least the time that it was kept waiting: a
// stream is never held up longer than by one such pass and what one step takes. Thread-safe; Run and RunAlone block
// their caller, and called on the execution thread itself RunAlone runs at once. After a failure of the device every
// call returns UNAVAILABLE.
#ifndef NABLA_ENGINE_DECODE_BATCHER_H_
#define NABLA_ENGINE_DECODE_BATCHER_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace nabla {

// What a request wants run through one model: some rows (tokens) a step, until it is done.
class BatchJob {
 public:
  virtual ~BatchJob() = default;

  // Rows that it wants in the next pass, at least 1; it may be granted fewer. 1 counts as decoding, which goes first.
  virtual int64_t RowsWanted() const = 0;

  // Looked at before every pass; an error ends the job with that status.
  virtual absl::Status Check() const = 0;

  // Set by the model's RunPass: the job has all it wants, or cannot go on for a reason of its own.
  bool done = false;
  absl::Status status;
};

// A share of a forward pass.
struct BatchShare {
  BatchJob* job = nullptr;
  int64_t rows = 0;
};

// A model that runs jobs of its own kind.
class BatchModel {
 public:
  virtual ~BatchModel() = default;

  // One forward pass over all shares; sets `done` of the jobs that it completes and `status` of those that it cannot go
  // on with. Returns how many rows were run, guesses included. An error ends all jobs of the pass; anything but
  // RESOURCE_EXHAUSTED means that the device has failed.
  virtual absl::StatusOr<int64_t> RunPass(absl::Span<const BatchShare> shares) = 0;
};

class Batcher {
 public:
  struct Options {
    int64_t max_batch_tokens = 128;             // rows of one pass
    std::function<void()> on_thread_start;      // on the execution thread, before anything else
    std::function<void(int64_t rows)> on_pass;  // after every pass, on the execution thread; must not block
  };

  explicit Batcher(Options options);
  ~Batcher();  // no call may be in progress
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  absl::Status Run(BatchModel& model, BatchJob& job) { return Run(model, {&job}); }
  // All at once; blocks until the last is done. The first error in their order.
  absl::Status Run(BatchModel& model, absl::Span<BatchJob* const> jobs);
  absl::Status RunAlone(const std::function<absl::Status()>& work);
  // Work that nobody waits for, on the execution thread once it has had no other for a moment; whoever comes meanwhile
  // waits for a piece's end, so give it in small ones. In the order given; what is left when the batcher goes, or the
  // device has failed, is never done.
  void RunWhenIdle(std::function<void()> piece);

  bool healthy() const;
  int calls_in_progress() const;  // jobs of Run, and calls of RunAlone
  // How long there has been work without a step coming to its end; 0 where idle.
  absl::Duration time_without_progress() const;

 private:
  // A job, or a call of RunAlone, while its caller blocks and keeps it.
  struct Call {
    BatchModel* model = nullptr;  // null: RunAlone
    BatchJob* job = nullptr;
    const std::function<absl::Status()>* work = nullptr;
    absl::Status status;
    bool finished = false;
    std::condition_variable changed;
  };

  absl::Status Await(std::deque<Call*>& queue, absl::Span<Call> calls);
  void Loop();
  void RunStep(std::unique_lock<std::mutex>& lock);
  void RunNextAlone(std::unique_lock<std::mutex>& lock);
  void RunNextIdle(std::unique_lock<std::mutex>& lock);
  std::vector<Call*> ChooseStep(std::vector<BatchShare>& shares) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void Finish(Call& call, absl::Status status);
  void EndAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // with failure_

  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable work_arrived_;
  std::deque<Call*> jobs_ ABSL_GUARDED_BY(mutex_);   // in progress, the longest unserved first
  std::deque<Call*> alone_ ABSL_GUARDED_BY(mutex_);  // waiting
  std::deque<std::function<void()>> when_idle_ ABSL_GUARDED_BY(mutex_);
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_progress_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // infinite: idle
  // The execution thread's own: how long decoding has been kept waiting, and what its last step took.
  absl::Duration owed_to_steps_, last_step_;
  int64_t passes_since_idle_ = 0;
  std::thread thread_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_DECODE_BATCHER_H_
