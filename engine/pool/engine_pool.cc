#include "engine/pool/engine_pool.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/base/stop_token.h"
#include "engine/base/thread_priority.h"
#include "engine/pool/admission_queue.h"
#include "engine/pool/engine.h"
#include "engine/pool/limits.h"
#include "engine/pool/pool_of_engines.h"

namespace nabla {
namespace {

class EnginePoolImpl;

// How tickets, which may outlive the pool, reach it.
struct PoolLink {
  std::mutex mutex;  // taken before the pool's own
  EnginePoolImpl* pool ABSL_GUARDED_BY(mutex) = nullptr;
};

// An engine and what the pool knows of it.
struct Place {
  std::unique_ptr<Engine> engine;
  int running = 0;
  EngineLoad load;  // as last asked for
};

struct Job : RequestTicket {
  Job(Engine::Prepared prepared_request, absl::Time deadline, EventSink* event_sink, DoneCallback done_callback,
      std::shared_ptr<PoolLink> pool_link)
      : prepared(std::move(prepared_request)),
        submitted(absl::Now()),
        stop(deadline),
        sink(event_sink),
        link(std::move(pool_link)),
        done(std::move(done_callback)) {}
  void Cancel() override;

  const Engine::Prepared prepared;
  const absl::Time submitted;
  StopToken stop;
  EventSink* const sink;
  const std::shared_ptr<PoolLink> link;
  // Guarded by the pool's mutex.
  DoneCallback done;
  uint64_t id = 0;         // in the queue
  Place* place = nullptr;  // once it has one
};

absl::Status ShuttingDown() { return absl::UnavailableError("the server is shutting down; retry on another server"); }

absl::Status NoEngineLeft() {
  return absl::UnavailableError("no engine is left: every device has failed; restart the server");
}

absl::Status NeverFits(const Job& job) {
  return absl::OutOfRangeError(absl::StrCat("max_new_tokens: the request may come to hold ", job.prepared.kv_tokens,
                                            " positions of key/value memory, more than any engine of this server has; "
                                            "ask for fewer max_new_tokens or raise the server's kv_cache_bytes"));
}

// Why a request that has not started never will: its caller or the server has stopped it, else its deadline.
absl::Status WhyUnstarted(const Job& job) {
  absl::Status status = job.stop.Check();
  if (!status.ok() && !absl::IsDeadlineExceeded(status)) return status;
  return absl::DeadlineExceededError("the request's deadline has passed while it was queued");
}

template <typename Predicate>
void WaitUntil(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, absl::Time deadline,
               Predicate predicate) {
  if (deadline == absl::InfiniteFuture()) {
    changed.wait(lock, predicate);
  } else if (deadline > absl::Now()) {
    changed.wait_until(lock, absl::ToChronoTime(deadline), predicate);
  }
}

class EnginePoolImpl : public EnginePool {
 public:
  EnginePoolImpl(const EnginePoolOptions& options, std::vector<std::unique_ptr<Engine>> engines)
      : options_(options),
        preparer_(engines[0].get()),
        places_(engines.size()),
        queue_({.max_requests = options.max_queued_requests, .max_tokens = options.max_queued_tokens}) {
    for (size_t i = 0; i < engines.size(); ++i) places_[i].engine = std::move(engines[i]);
    {
      const std::lock_guard<std::mutex> lock(link_->mutex);
      link_->pool = this;
    }
    housekeeper_ = std::thread([this] { KeepHouse(); });
    const std::lock_guard<std::mutex> lock(mutex_);
    workers_.emplace_back([this] { Work(); });  // so that there is always one
  }

  ~EnginePoolImpl() override {
    Shutdown(absl::InfinitePast());
    const std::lock_guard<std::mutex> lock(link_->mutex);
    link_->pool = nullptr;
  }

  absl::StatusOr<std::shared_ptr<RequestTicket>> Submit(ReasonRequest request, SubmitOptions options, EventSink* sink,
                                                        DoneCallback done) override {
    NABLA_RETURN_IF_ERROR(CheckLimits(options_, request));
    {
      // Under overload a refusal must not cost the tokenisation of the prompt.
      const std::lock_guard<std::mutex> lock(mutex_);
      NABLA_RETURN_IF_ERROR(CheckOpen());
      NABLA_RETURN_IF_ERROR(queue_.CheckRoom());
    }
    const Priority priority = request.priority;
    NABLA_ASSIGN_OR_RETURN(Engine::Prepared prepared, preparer_->Prepare(std::move(request)));
    const int64_t tokens = EstimateTokens(prepared);
    auto job = std::make_shared<Job>(std::move(prepared), options.deadline, sink, std::move(done), link_);

    const std::lock_guard<std::mutex> lock(mutex_);
    NABLA_RETURN_IF_ERROR(CheckOpen());
    NABLA_ASSIGN_OR_RETURN(
        job->id,
        queue_.Push(
            {.priority = priority, .client = std::move(options.client), .tokens = tokens, .deadline = options.deadline},
            job->submitted));
    waiting_.emplace(job->id, job);
    ++open_;
    Dispatch();
    return job;
  }

  // Takes a cancelled request out of the queue, if it is still there.
  void Withdraw(const Job& job) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!queue_.Remove(job.id)) return;
    EndUnstarted(job.id, WhyUnstarted(job));
    Dispatch();  // the next one may fit where this one did not
  }

  void Shutdown(absl::Time deadline) override {
    std::unique_lock<std::mutex> lock(mutex_);
    draining_ = true;
    const auto idle = [this] { return open_ == 0; };
    WaitUntil(all_done_, lock, deadline, idle);
    EndAllUnstarted(ShuttingDown());
    for (const auto& job : placed_) job->stop.Stop(StopToken::Reason::kShutdown);
    all_done_.wait(lock, idle);
    ending_ = true;
    work_.notify_all();
    house_.notify_one();
    lock.unlock();

    const std::lock_guard<std::mutex> join_lock(join_mutex_);
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    if (housekeeper_.joinable()) housekeeper_.join();
  }

  PoolLoad load() const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    PoolLoad load = {
        .running = static_cast<int>(placed_.size()), .waiting = queue_.size(), .waiting_tokens = queue_.tokens()};
    for (const Place& place : places_) {
      load.engines.push_back(place.engine->load());
      load.engines.back().running = place.running;
      if (load.engines.back().healthy) load.capacity += options_.max_running_requests;
    }
    return load;
  }

  ModelInfos models() const override { return preparer_->models(); }

 private:
  absl::Status CheckOpen() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (draining_) return ShuttingDown();
    return RefreshLoads() ? absl::OkStatus() : NoEngineLeft();
  }

  // Asks the engines how they are; whether one of them is healthy.
  bool RefreshLoads() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    bool healthy = false;
    for (Place& place : places_) {
      place.load = place.engine->load();
      healthy |= place.load.healthy;
    }
    return healthy;
  }

  // Ends what has expired and places the head of the queue, as long as it fits somewhere. Called whenever one of these
  // may have become possible.
  void Dispatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::Time now = absl::Now();
    for (const uint64_t id : queue_.TakeExpired(now)) EndUnstarted(id, WhyUnstarted(*waiting_.at(id)));
    while (const std::optional<uint64_t> id = queue_.Front(now)) {
      if (!RefreshLoads()) {
        EndAllUnstarted(NoEngineLeft());
        break;
      }
      const std::shared_ptr<Job> job = waiting_.at(*id);
      job->place = Reserve(job->prepared.kv_tokens);
      if (job->place != nullptr) {
        queue_.Start(*id);
        waiting_.erase(*id);
        HandToWorker(job);
      } else if (HealthyEnginesAreIdle()) {
        queue_.Remove(*id);
        EndUnstarted(*id, NeverFits(*job));
      } else {
        break;
      }
    }
    if (queue_.NextChange() < house_wakes_at_) house_.notify_one();
  }

  // The best healthy engine with a free place and memory left, its memory reserved; null without one.
  Place* Reserve(int64_t kv_tokens) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<Place*> candidates;
    for (Place& place : places_) {
      if (place.load.healthy && place.running < options_.max_running_requests) candidates.push_back(&place);
    }
    std::stable_sort(candidates.begin(), candidates.end(), [](const Place* a, const Place* b) {
      return std::make_tuple(a->load.stuck, a->running, a->load.kv_cache_usage_ratio) <
             std::make_tuple(b->load.stuck, b->running, b->load.kv_cache_usage_ratio);
    });
    for (Place* place : candidates) {
      if (place->engine->TryReserve(kv_tokens)) return place;
    }
    return nullptr;
  }

  bool HealthyEnginesAreIdle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return std::all_of(places_.begin(), places_.end(),
                       [](const Place& place) { return !place.load.healthy || place.running == 0; });
  }

  void HandToWorker(const std::shared_ptr<Job>& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ++job->place->running;
    placed_.insert(job);
    ready_.push_back(job);
    const size_t most = places_.size() * options_.max_running_requests;
    if (ready_.size() <= idle_workers_) {
      work_.notify_one();
    } else if (workers_.size() < most) {
      try {
        workers_.emplace_back([this] { Work(); });
      } catch (const std::system_error&) {
        // The system has no more threads: the request waits for a worker that there is.
      }
    }  // else a worker that has just given its place back is about to look here
  }

  // For a job that has been taken out of the queue: the housekeeper will call its `done`.
  void EndUnstarted(uint64_t id, absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto waiting = waiting_.find(id);
    ended_.emplace_back(std::move(waiting->second), std::move(status));
    waiting_.erase(waiting);
    house_.notify_one();
  }

  void EndAllUnstarted(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const uint64_t id : queue_.TakeAll()) EndUnstarted(id, status);
  }

  void Work() {
    LowerThreadPriority();
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      ++idle_workers_;
      work_.wait(lock, [this] { return !ready_.empty() || ending_; });
      --idle_workers_;
      if (ready_.empty()) return;
      std::shared_ptr<Job> job = std::move(ready_.front());
      ready_.pop_front();
      Engine& engine = *job->place->engine;
      lock.unlock();
      absl::StatusOr<ReasonResult> result =
          job->stop.Check().ok() ? engine.Run(job->prepared, absl::Now() - job->submitted, job->stop, *job->sink)
                                 : WhyUnstarted(*job);
      lock.lock();
      engine.Release(job->prepared.kv_tokens);
      --job->place->running;
      placed_.erase(job);
      Dispatch();
      Finish(lock, std::move(job), std::move(result));
    }
  }

  void KeepHouse() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      Dispatch();
      while (!ended_.empty()) {
        auto [job, status] = std::move(ended_.front());
        ended_.pop_front();
        Finish(lock, std::move(job), std::move(status));
      }
      if (ending_) return;
      house_wakes_at_ = queue_.NextChange();
      if (house_wakes_at_ == absl::InfiniteFuture()) {
        house_.wait(lock);
      } else {
        house_.wait_until(lock, absl::ToChronoTime(house_wakes_at_));
      }
    }
  }

  // Tells the caller, without the lock. The callback is destroyed before the pool can count as idle: it may hold the
  // last reference to what must not outlive the pool.
  void Finish(std::unique_lock<std::mutex>& lock, std::shared_ptr<Job> job, absl::StatusOr<ReasonResult> result) {
    DoneCallback done = std::exchange(job->done, nullptr);
    lock.unlock();
    done(std::move(result));
    done = nullptr;
    job.reset();
    lock.lock();
    if (--open_ == 0) all_done_.notify_all();
  }

  const EnginePoolOptions options_;
  Engine* const preparer_;  // the first of the engines; healthy or not, it can prepare for all
  const std::shared_ptr<PoolLink> link_ = std::make_shared<PoolLink>();

  mutable std::mutex mutex_;  // taken before the engines' own
  std::vector<Place> places_ ABSL_GUARDED_BY(mutex_);
  AdmissionQueue queue_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, std::shared_ptr<Job>> waiting_ ABSL_GUARDED_BY(mutex_);  // exactly those in queue_
  std::set<std::shared_ptr<Job>> placed_ ABSL_GUARDED_BY(mutex_);                       // on an engine
  std::deque<std::shared_ptr<Job>> ready_ ABSL_GUARDED_BY(mutex_);  // of these, those for which no worker has come yet
  std::deque<std::pair<std::shared_ptr<Job>, absl::Status>> ended_ ABSL_GUARDED_BY(mutex_);  // for the housekeeper
  int open_ ABSL_GUARDED_BY(mutex_) = 0;  // submitted, `done` not yet called
  size_t idle_workers_ ABSL_GUARDED_BY(mutex_) = 0;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;  // nothing is open and nothing will be: threads return
  absl::Time house_wakes_at_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  std::condition_variable work_;      // ready_ or ending_
  std::condition_variable house_;     // ended_, ending_ or an earlier change of the queue
  std::condition_variable all_done_;  // open_ is 0

  std::mutex join_mutex_;
  std::vector<std::thread> workers_;  // guarded by mutex_ until ending_, then by join_mutex_
  std::thread housekeeper_;           // guarded by join_mutex_
};

void Job::Cancel() {
  stop.Stop(StopToken::Reason::kCancelled);
  const std::lock_guard<std::mutex> lock(link->mutex);
  if (link->pool != nullptr) link->pool->Withdraw(*this);
}

}  // namespace

std::unique_ptr<EnginePool> MakeEnginePool(const EnginePoolOptions& options,
                                           std::vector<std::unique_ptr<Engine>> engines) {
  return std::make_unique<EnginePoolImpl>(options, std::move(engines));
}

}  // namespace nabla
