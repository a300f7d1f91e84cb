#include "engine/decode/batcher.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/thread_priority.h"

namespace nabla {
namespace {

// Threads that carry tokens to a client must not wait for the execution thread, which never sleeps while it has work.
// Two things make them, on Linux: waking, it displaces the one that brought it work until the next tick, up to 4 ms
// later, so its first passes yield (not every one: where programs compete for the cores, a yield costs a slice of
// theirs); and a thread that is woken from another core may displace it only at its next tick or system call, so every
// pass has one. Together: events of a short request reach their client within 0.8 ms (p99) instead of 3.
constexpr int kYieldingPasses = 8;
// The pauses between one request's passes are no time to begin something else in.
constexpr std::chrono::milliseconds kIdleTime(50);

void LetOthersPass(int64_t passes_since_idle) {
  passes_since_idle < kYieldingPasses ? std::this_thread::yield() : static_cast<void>(getppid());
}

}  // namespace

Batcher::Batcher(Options options) : options_(std::move(options)), thread_([this] { Loop(); }) {}

Batcher::~Batcher() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    work_arrived_.notify_one();
  }
  thread_.join();
}

absl::Status Batcher::Run(BatchModel& model, absl::Span<BatchJob* const> jobs) {
  std::vector<Call> calls(jobs.size());
  for (size_t i = 0; i < jobs.size(); ++i) {
    calls[i].model = &model;
    calls[i].job = jobs[i];
  }
  if (calls.empty()) return absl::OkStatus();
  return Await(jobs_, absl::MakeSpan(calls));
}

absl::Status Batcher::RunAlone(const std::function<absl::Status()>& work) {
  if (std::this_thread::get_id() == thread_.get_id()) return work();
  Call call;
  call.work = &work;
  return Await(alone_, absl::MakeSpan(&call, 1));
}

void Batcher::RunWhenIdle(std::function<void()> piece) {
  const std::lock_guard<std::mutex> lock(mutex_);
  when_idle_.push_back(std::move(piece));
  work_arrived_.notify_one();
}

absl::Status Batcher::Await(std::deque<Call*>& queue, absl::Span<Call> calls) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!failure_.ok()) return failure_;
  if (jobs_.empty() && alone_.empty()) {
    if (last_progress_ == absl::InfiniteFuture()) last_progress_ = absl::Now();
    work_arrived_.notify_one();
  }
  for (Call& call : calls) queue.push_back(&call);
  calls_ += static_cast<int>(calls.size());
  absl::Status status;
  for (Call& call : calls) {
    call.changed.wait(lock, [&call] { return call.finished; });
    status.Update(call.status);
  }
  calls_ -= static_cast<int>(calls.size());
  return status;
}

bool Batcher::healthy() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return failure_.ok();
}

int Batcher::calls_in_progress() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return calls_;
}

absl::Duration Batcher::time_without_progress() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::max(absl::Now() - last_progress_, absl::ZeroDuration());
}

void Batcher::Loop() {
  LowerThreadPriority();
  if (options_.on_thread_start) options_.on_thread_start();
  std::unique_lock<std::mutex> lock(mutex_);
  const auto is_called = [this] { return stopping_ || !jobs_.empty() || !alone_.empty(); };
  bool idle = false;  // for kIdleTime, and what was done since was for idle time
  while (true) {
    if (jobs_.empty() && alone_.empty()) {
      if (stopping_) return;
      last_progress_ = absl::InfiniteFuture();
      owed_to_steps_ = absl::ZeroDuration();
      passes_since_idle_ = 0;
      if (when_idle_.empty()) {
        work_arrived_.wait(lock, [&] { return is_called() || !when_idle_.empty(); });
      } else if (idle) {
        RunNextIdle(lock);
      } else {
        idle = !work_arrived_.wait_until(lock, std::chrono::system_clock::now() + kIdleTime, is_called);
      }
      continue;
    }
    idle = false;
    const bool alone = !alone_.empty() && (jobs_.empty() || owed_to_steps_ <= absl::ZeroDuration());
    alone ? RunNextAlone(lock) : RunStep(lock);
    last_progress_ = absl::Now();
  }
}

void Batcher::RunNextIdle(std::unique_lock<std::mutex>& lock) {
  std::function<void()> piece = std::move(when_idle_.front());
  when_idle_.pop_front();
  lock.unlock();
  piece();
  piece = nullptr;
  lock.lock();
}

void Batcher::RunNextAlone(std::unique_lock<std::mutex>& lock) {
  Call& call = *alone_.front();
  alone_.pop_front();
  if (jobs_.empty()) owed_to_steps_ = absl::ZeroDuration();
  lock.unlock();
  const absl::Time start = absl::Now();
  absl::Status status = (*call.work)();
  const absl::Duration took = absl::Now() - start;
  lock.lock();
  // Owed to those that wait, of this pass alone: however long others refined before they came. Short work may follow
  // short work until together it has taken as long as the last step did.
  if (!jobs_.empty()) owed_to_steps_ = std::max(owed_to_steps_, -last_step_) + took;
  Finish(call, std::move(status));
}

// The jobs of the model that has waited longest: first those that decode, then rows of prompts in what room is left.
// The job that has waited longest gets a row in any case.
std::vector<Batcher::Call*> Batcher::ChooseStep(std::vector<BatchShare>& shares) {
  const BatchModel* model = jobs_.front()->model;
  std::vector<Call*> chosen;
  const bool prompt_first = jobs_.front()->job->RowsWanted() > 1;
  int64_t room = options_.max_batch_tokens - (prompt_first ? 1 : 0);
  for (const bool decoding : {true, false}) {
    for (Call* call : jobs_) {
      if (call->model != model) continue;
      const int64_t wanted = call->job->RowsWanted();
      if ((wanted == 1) != decoding) continue;
      if (prompt_first && call == jobs_.front()) ++room;
      if (room == 0) break;
      const int64_t rows = std::min(wanted, room);
      shares.push_back({call->job, rows});
      chosen.push_back(call);
      room -= rows;
    }
  }
  return chosen;
}

void Batcher::RunStep(std::unique_lock<std::mutex>& lock) {
  for (auto it = jobs_.begin(); it != jobs_.end();) {
    absl::Status status = (*it)->job->Check();
    if (status.ok()) {
      ++it;
      continue;
    }
    Finish(**it, std::move(status));
    it = jobs_.erase(it);
  }
  if (jobs_.empty()) return;
  std::vector<BatchShare> shares;
  const std::vector<Call*> chosen = ChooseStep(shares);
  lock.unlock();
  LetOthersPass(passes_since_idle_++);
  const absl::Time start = absl::Now();
  const absl::StatusOr<int64_t> rows = chosen.front()->model->RunPass(shares);
  last_step_ = absl::Now() - start;
  owed_to_steps_ -= last_step_;
  if (options_.on_pass && rows.ok()) options_.on_pass(*rows);
  lock.lock();
  absl::Status status = rows.status();
  if (!status.ok() && !absl::IsResourceExhausted(status)) {
    failure_ = absl::UnavailableError(absl::StrCat("the engine has failed: ", status.message()));
    status = failure_;
  }
  // Those that were served go behind those that were not.
  const auto served = [&chosen](const Call* call) {
    return std::find(chosen.begin(), chosen.end(), call) != chosen.end();
  };
  std::stable_partition(jobs_.begin(), jobs_.end(), [&](const Call* call) { return !served(call); });
  const auto ended = std::remove_if(jobs_.begin(), jobs_.end(), [&](Call* call) {
    if (!served(call)) return false;
    if (!status.ok()) {
      Finish(*call, status);
    } else if (call->job->done || !call->job->status.ok()) {
      Finish(*call, call->job->status);
    } else {
      return false;
    }
    return true;
  });
  jobs_.erase(ended, jobs_.end());
  if (!failure_.ok()) EndAll();
}

void Batcher::Finish(Call& call, absl::Status status) {
  call.status = std::move(status);
  call.finished = true;
  call.changed.notify_one();
}

void Batcher::EndAll() {
  for (std::deque<Call*>* queue : {&jobs_, &alone_}) {
    for (Call* call : *queue) Finish(*call, failure_);
    queue->clear();
  }
  when_idle_.clear();
}

}  // namespace nabla
