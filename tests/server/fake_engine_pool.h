// An EnginePool whose requests the test answers by hand, or by a script that runs on a thread of its own a request.
//
//   auto pool = std::make_unique<FakeEnginePool>();
//   FakeEnginePool* fake = pool.get();
//   …                                                   // a client calls Reason
//   std::shared_ptr<FakeRequest> request = fake->Next();  // blocks until the server has submitted it
//   request->Emit(CommittedEvent{{1}, "a"});
//   request->Finish(ReasonResult{});
//
// Thread-safe. Every wait has a generous limit, behind which the test fails instead of hanging.
#ifndef NABLA_TESTS_SERVER_FAKE_ENGINE_POOL_H_
#define NABLA_TESTS_SERVER_FAKE_ENGINE_POOL_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/pool/engine_pool.h"

namespace nabla {

constexpr std::chrono::seconds kTestPatience(60);

class FakeRequest : public RequestTicket {
 public:
  FakeRequest(ReasonRequest request, SubmitOptions options, EventSink* sink, DoneCallback done)
      : request_(std::move(request)), options_(std::move(options)), sink_(sink), done_(std::move(done)) {}

  const ReasonRequest& request() const { return request_; }
  absl::Time deadline() const { return options_.deadline; }
  const std::string& client() const { return options_.client; }

  void Emit(Event event) { sink_->OnEvent(std::move(event)); }

  // Only the first call counts.
  void Finish(absl::StatusOr<ReasonResult> result) {
    DoneCallback done;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      done.swap(done_);
    }
    if (done) done(std::move(result));
    const std::lock_guard<std::mutex> lock(mu_);
    finished_ = true;
    changed_.notify_all();
  }

  void Cancel() override {
    const std::lock_guard<std::mutex> lock(mu_);
    cancelled_ = true;
    changed_.notify_all();
  }
  bool cancelled() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return cancelled_;
  }
  bool AwaitCancelled() const {
    std::unique_lock<std::mutex> lock(mu_);
    return changed_.wait_for(lock, kTestPatience, [this] { return cancelled_; });
  }
  bool AwaitFinished(absl::Time deadline) const {
    std::unique_lock<std::mutex> lock(mu_);
    return changed_.wait_until(lock, absl::ToChronoTime(deadline), [this] { return finished_; });
  }

 private:
  const ReasonRequest request_;
  const SubmitOptions options_;
  EventSink* const sink_;
  mutable std::mutex mu_;
  mutable std::condition_variable changed_;
  DoneCallback done_ ABSL_GUARDED_BY(mu_);
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

class FakeEnginePool : public EnginePool {
 public:
  using Script = std::function<void(FakeRequest*)>;

  explicit FakeEnginePool(bool with_reward_model = true, Script script = nullptr) : script_(std::move(script)) {
    if (with_reward_model) {
      models_.reward_model = ModelInfo{.name = "judge",
                                       .architecture = "JudgeForSequenceClassification",
                                       .dtype = "float32",
                                       .device = "cpu",
                                       .reward_kind = "classifier",
                                       .parameters = 7,
                                       .vocabulary_size = 11,
                                       .max_length = 64};
    }
  }
  ~FakeEnginePool() override { Shutdown(absl::Now()); }

  // What every Submit answers from now on; OK: takes requests.
  void RefuseWith(absl::Status status) {
    const std::lock_guard<std::mutex> lock(mu_);
    refusal_ = std::move(status);
  }

  // The oldest request nobody has asked for; null if none comes.
  std::shared_ptr<FakeRequest> Next() {
    std::unique_lock<std::mutex> lock(mu_);
    if (!changed_.wait_for(lock, kTestPatience, [this] { return next_ < requests_.size(); })) return nullptr;
    return requests_[next_++];
  }

  absl::StatusOr<std::shared_ptr<RequestTicket>> Submit(ReasonRequest request, SubmitOptions options, EventSink* sink,
                                                        DoneCallback done) override {
    const std::lock_guard<std::mutex> lock(mu_);
    if (!refusal_.ok()) return refusal_;
    auto submitted = std::make_shared<FakeRequest>(std::move(request), std::move(options), sink, std::move(done));
    requests_.push_back(submitted);
    changed_.notify_all();
    if (script_) threads_.emplace_back([this, submitted] { script_(submitted.get()); });
    return std::shared_ptr<RequestTicket>(submitted);
  }

  void Shutdown(absl::Time deadline) override {
    std::vector<std::shared_ptr<FakeRequest>> requests;
    std::list<std::thread> threads;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      refusal_ = absl::UnavailableError("the server is shutting down; retry on another server");
      requests = requests_;
      threads.swap(threads_);
      shutdown_started_ = true;
      changed_.notify_all();
    }
    for (const auto& request : requests) {
      if (request->AwaitFinished(deadline)) continue;
      request->Cancel();
      request->Finish(absl::UnavailableError("the server is shutting down; retry on another server"));
    }
    for (std::thread& thread : threads) thread.join();
  }
  bool AwaitShutdown() const {
    std::unique_lock<std::mutex> lock(mu_);
    return changed_.wait_for(lock, kTestPatience, [this] { return shutdown_started_; });
  }

  // What load() says of the engines from now on.
  void SetEngines(std::vector<EngineLoad> engines) {
    const std::lock_guard<std::mutex> lock(mu_);
    engines_ = std::move(engines);
  }

  PoolLoad load() const override {
    const std::lock_guard<std::mutex> lock(mu_);
    return {.running = 2, .waiting = 3, .waiting_tokens = 300, .capacity = 4, .engines = engines_};
  }
  ModelInfos models() const override { return models_; }

 private:
  const Script script_;
  ModelInfos models_ = {.model = {.name = "writer",
                                  .architecture = "WriterForCausalLM",
                                  .dtype = "float32",
                                  .device = "cpu",
                                  .parameters = 5,
                                  .vocabulary_size = 11,
                                  .max_length = 128}};
  mutable std::mutex mu_;
  mutable std::condition_variable changed_;
  absl::Status refusal_ ABSL_GUARDED_BY(mu_);
  std::vector<EngineLoad> engines_ ABSL_GUARDED_BY(mu_) = {
      {.device = "cpu", .running = 2, .kv_cache_usage_ratio = 0.5, .prefix_cache_hit_tokens = 6}};
  std::vector<std::shared_ptr<FakeRequest>> requests_ ABSL_GUARDED_BY(mu_);
  size_t next_ ABSL_GUARDED_BY(mu_) = 0;
  bool shutdown_started_ ABSL_GUARDED_BY(mu_) = false;
  std::list<std::thread> threads_ ABSL_GUARDED_BY(mu_);
};

}  // namespace nabla

#endif  // NABLA_TESTS_SERVER_FAKE_ENGINE_POOL_H_
