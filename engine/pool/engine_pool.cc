#include "engine/pool/engine_pool.h"

#include <algorithm>
#include <deque>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/base/stop_token.h"
#include "engine/pool/engine.h"

namespace nabla {
namespace {

constexpr int kMaxDefaultWorkers = 8;

struct Job : RequestTicket {
  Job(Engine::Prepared prepared_request, absl::Time deadline, EventSink* event_sink, DoneCallback done_callback)
      : prepared(std::move(prepared_request)),
        stop(deadline),
        sink(event_sink),
        done(std::move(done_callback)),
        submitted(absl::Now()) {}
  void Cancel() override { stop.Stop(StopToken::Reason::kCancelled); }

  const Engine::Prepared prepared;
  StopToken stop;
  EventSink* const sink;
  DoneCallback done;
  const absl::Time submitted;
};

absl::Status CapError(const char* field, int limit, int value) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": must be at most ", limit, " on this server, got ", value));
}

class EnginePoolImpl : public EnginePool {
 public:
  EnginePoolImpl(EnginePoolOptions options, std::unique_ptr<Engine> engine)
      : options_(std::move(options)), engine_(std::move(engine)) {
    for (int i = 0; i < options_.workers; ++i) workers_.emplace_back([this] { Work(); });
  }
  ~EnginePoolImpl() override { Shutdown(absl::InfinitePast()); }

  absl::StatusOr<std::shared_ptr<RequestTicket>> Submit(ReasonRequest request, absl::Time deadline, EventSink* sink,
                                                        DoneCallback done) override {
    NABLA_RETURN_IF_ERROR(CheckCaps(request));
    NABLA_ASSIGN_OR_RETURN(Engine::Prepared prepared, engine_->Prepare(std::move(request)));
    auto job = std::make_shared<Job>(std::move(prepared), deadline, sink, std::move(done));
    const absl::MutexLock lock(&mutex_);
    if (draining_) return absl::UnavailableError("the server is shutting down; retry on another server");
    if (static_cast<int>(queue_.size()) >= options_.max_queued_requests) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the queue is full (", options_.max_queued_requests, " requests); retry later"));
    }
    queue_.push_back(job);
    return job;
  }

  void Shutdown(absl::Time deadline) override {
    {
      const absl::MutexLock lock(&mutex_);
      draining_ = true;
      mutex_.AwaitWithDeadline(absl::Condition(this, &EnginePoolImpl::Idle), deadline);
      for (const auto& job : queue_) job->stop.Stop(StopToken::Reason::kShutdown);
      for (const auto& job : running_) job->stop.Stop(StopToken::Reason::kShutdown);
    }
    const absl::MutexLock lock(&join_mutex_);
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  PoolLoad load() const override {
    const absl::MutexLock lock(&mutex_);
    const double capacity = static_cast<double>(options_.workers) * engine_->model_info().max_length;
    return {.running = static_cast<int>(running_.size()),
            .waiting = static_cast<int>(queue_.size()),
            .workers = options_.workers,
            .kv_cache_usage_ratio = static_cast<double>(engine_->cached_tokens()) / capacity};
  }

  const ModelInfo& model_info() const override { return engine_->model_info(); }
  const std::optional<ModelInfo>& reward_model_info() const override { return engine_->reward_model_info(); }

 private:
  absl::Status CheckCaps(const ReasonRequest& request) const {
    if (request.max_new_tokens > options_.max_new_tokens_limit) {
      return CapError("max_new_tokens", options_.max_new_tokens_limit, request.max_new_tokens);
    }
    const auto* nabla = std::get_if<NablaOptions>(&request.strategy);
    if (nabla != nullptr && nabla->max_rollouts > options_.max_rollouts_limit) {
      return CapError("nabla.max_rollouts", options_.max_rollouts_limit, nabla->max_rollouts);
    }
    return absl::OkStatus();
  }

  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return queue_.empty() && running_.empty(); }
  bool WorkOrEnd() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !queue_.empty() || draining_; }

  // A queued request whose caller has gone or whose deadline has passed never reaches the engine: Run's first look at
  // the stop token ends it.
  void Work() {
    Engine::SetThreads(options_.threads_per_worker);
    while (true) {
      std::shared_ptr<Job> job;
      {
        const absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(this, &EnginePoolImpl::WorkOrEnd));
        if (queue_.empty()) return;
        job = std::move(queue_.front());
        queue_.pop_front();
        running_.insert(job);
      }
      absl::StatusOr<ReasonResult> result =
          engine_->Run(job->prepared, absl::Now() - job->submitted, job->stop, *job->sink);
      {
        const absl::MutexLock lock(&mutex_);
        running_.erase(job);
      }
      job->done(std::move(result));
    }
  }

  const EnginePoolOptions options_;
  const std::unique_ptr<Engine> engine_;

  mutable absl::Mutex mutex_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::shared_ptr<Job>> queue_ ABSL_GUARDED_BY(mutex_);
  std::set<std::shared_ptr<Job>> running_ ABSL_GUARDED_BY(mutex_);

  absl::Mutex join_mutex_;
  std::vector<std::thread> workers_ ABSL_GUARDED_BY(join_mutex_);
};

absl::Status CheckPositive(const char* option, int value) {
  if (value >= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(option, " is ", value, "; expected 1 or more"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<EnginePool>> EnginePool::Create(const EnginePoolOptions& options) {
  EnginePoolOptions settled = options;
  const int cores = std::max<int>(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (settled.workers == 0) settled.workers = std::min(cores, kMaxDefaultWorkers);
  if (settled.threads_per_worker == 0) settled.threads_per_worker = std::max(1, cores / settled.workers);
  NABLA_RETURN_IF_ERROR(CheckPositive("workers", settled.workers));
  NABLA_RETURN_IF_ERROR(CheckPositive("threads_per_worker", settled.threads_per_worker));
  NABLA_RETURN_IF_ERROR(CheckPositive("max_queued_requests", settled.max_queued_requests));
  NABLA_RETURN_IF_ERROR(CheckPositive("max_new_tokens_limit", settled.max_new_tokens_limit));
  NABLA_RETURN_IF_ERROR(CheckPositive("max_rollouts_limit", settled.max_rollouts_limit));
  NABLA_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::Create(settled.model, settled.reward_model));
  return std::make_unique<EnginePoolImpl>(std::move(settled), std::move(engine));
}

}  // namespace nabla
