// An Engine whose requests stay in Run until the test lets them go. A request is known by its prompt.
//
//   auto engine = std::make_unique<FakeEngine>(FakeEngineOptions{.kv_tokens = 100});
//   FakeEngine* fake = engine.get();
//   …                                                     // the pool gets it and a request with the prompt "first"
//   EXPECT_TRUE(fake->AwaitStarted({"first"}));
//   fake->Finish("first");
//
// Thread-safe. Every wait has a generous limit, behind which the test fails instead of hanging.
#ifndef NABLA_TESTS_ENGINE_POOL_FAKE_ENGINE_H_
#define NABLA_TESTS_ENGINE_POOL_FAKE_ENGINE_H_

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/pool/engine.h"

namespace nabla {

constexpr std::chrono::seconds kPatience(60);

struct FakeEngineOptions {
  std::string device = "cpu";
  int64_t kv_tokens = int64_t{1} << 40;  // of key/value memory
  bool gated = true;                     // false: requests end at once
};

class FakeEngine : public Engine {
 public:
  explicit FakeEngine(FakeEngineOptions options = {}) : options_(std::move(options)), open_(!options_.gated) {}

  // One token a byte of the prompt; a request needs memory for these and its response.
  absl::StatusOr<Prepared> Prepare(ReasonRequest request) const override {
    NABLA_RETURN_IF_ERROR(Validate(request));
    Prepared prepared;
    prepared.prompt_ids.assign(request.prompt->begin(), request.prompt->end());
    prepared.kv_tokens = static_cast<int64_t>(request.prompt->size()) + request.max_new_tokens;
    prepared.request = std::move(request);
    return prepared;
  }

  bool TryReserve(int64_t kv_tokens) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (reserved_ + kv_tokens > options_.kv_tokens) return false;
    reserved_ += kv_tokens;
    return true;
  }
  void Release(int64_t kv_tokens) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    reserved_ -= kv_tokens;
  }

  absl::StatusOr<ReasonResult> Run(const Prepared& prepared, absl::Duration queue_time, const StopToken& stop,
                                   EventSink& sink) override {
    const std::string& name = *prepared.request.prompt;
    sink.OnEvent(StartedEvent{.strategy = StrategyName(prepared.request.strategy)});
    std::unique_lock<std::mutex> lock(mutex_);
    ++running_;
    most_running_ = std::max(most_running_, running_);
    started_.push_back(name);
    changed_.notify_all();
    // A step of a real engine: time passes, then the stop token is looked at.
    absl::Status status = stop.Check();
    while (status.ok() && !failed_ && !open_ && finished_.count(name) == 0) {
      changed_.wait_for(lock, std::chrono::milliseconds(1));
      status = stop.Check();
    }
    --running_;
    changed_.notify_all();
    if (failed_) return absl::UnavailableError(absl::StrCat("engine ", options_.device, " has failed"));
    if (const auto finished = finished_.find(name); finished != finished_.end()) status = finished->second;
    NABLA_RETURN_IF_ERROR(status);
    return ReasonResult{.text = name, .usage = {.queue_time = queue_time}};
  }

  EngineLoad load() const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {.device = options_.device,
            .healthy = !failed_,
            .stuck = stuck_,
            .kv_cache_usage_ratio = static_cast<double>(reserved_) / static_cast<double>(options_.kv_tokens)};
  }

  ModelInfos models() const override { return models_; }

  // Ends a request that runs or is yet to come; all of them; or all of them with UNAVAILABLE, from now on.
  void Finish(const std::string& name, absl::Status status = absl::OkStatus()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    finished_.emplace(name, std::move(status));
    changed_.notify_all();
  }
  void FinishAll() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void Fail() {
    const std::lock_guard<std::mutex> lock(mutex_);
    failed_ = true;
    changed_.notify_all();
  }
  void BecomeStuck() {
    const std::lock_guard<std::mutex> lock(mutex_);
    stuck_ = true;
  }

  // Waits until that many requests have come to run; whether they are the given ones, in this order.
  bool AwaitStarted(const std::vector<std::string>& names) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, kPatience, [&] { return started_.size() >= names.size(); });
    return started_ == names;
  }
  std::vector<std::string> started() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return started_;
  }
  int most_running() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return most_running_;
  }
  int64_t reserved() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return reserved_;
  }

 private:
  const FakeEngineOptions options_;
  const ModelInfos models_ = {.model = {.name = "writer", .device = options_.device},
                              .reward_model = ModelInfo{.name = "judge"}};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int64_t reserved_ ABSL_GUARDED_BY(mutex_) = 0;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  int most_running_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> started_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> finished_ ABSL_GUARDED_BY(mutex_);
  bool open_ ABSL_GUARDED_BY(mutex_);
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
  bool stuck_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace nabla

#endif  // NABLA_TESTS_ENGINE_POOL_FAKE_ENGINE_H_
