// Requests in, events out: an admission queue in front, engines (one a device) behind, and every thread between.
//
//   auto pool = EnginePool::Create({.model = {.path = "models/writer"},
//                                   .reward_model = RewardModelOptions{.path = "models/judge"}});
//   auto ticket = (*pool)->Submit(request, {.client = "alice"}, &sink, [](absl::StatusOr<ReasonResult> result) { … });
//   (*ticket)->Cancel();
//
// Thread-safe. Submit never blocks and never runs the request on the caller's thread.
#ifndef NABLA_ENGINE_POOL_ENGINE_POOL_H_
#define NABLA_ENGINE_POOL_ENGINE_POOL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/event.h"
#include "engine/base/model_info.h"
#include "engine/base/request.h"
#include "engine/base/stop_token.h"
#include "engine/reward/reward_model_options.h"

namespace nabla {

class Batcher;
class RewardModel;

struct ModelOptions {
  std::string path;            // folder in Hugging Face layout
  std::string dtype = "auto";  // "float32", "bfloat16" or "auto" (what config.json says)
  int max_length = 0;          // prompt and response tokens of one request; 0: the model's own limit, at most 8192
};

struct EnginePoolOptions {
  ModelOptions model;
  std::optional<RewardModelOptions> reward_model;  // without one, strategies that need rewards are refused
  // A small model with the same tokenizer, for the strategy that drafts with one. Its max_length is the language
  // model's.
  std::optional<ModelOptions> draft_model;
  // Reward models that may have to agree to revisions; of kLikelihood or kClassifier, as config.json says.
  std::vector<ModelOptions> guard_models;
  std::vector<std::string> devices = {"auto"};  // one engine each: "cpu", "cuda:N" or "auto" (CUDA where there is one)
  int64_t kv_cache_bytes = int64_t{1} << 30;    // of one engine: keys and values of its models
  // Of one CPU engine: what rollouts, and their scoring, leave to their gradients, which then need no forward pass of
  // their own; where it is full they run one, to the same bits. About twelve times what keys and values take a token.
  int64_t activation_bytes = int64_t{512} << 20;
  int max_running_requests = 64;       // of one engine; each has a thread
  int threads = 0;                     // of one CPU engine; 0: by cores and model, see ThreadCount
  int max_batch_tokens = 128;          // rows of one forward pass
  int max_draft_tokens = 8;            // guessed ones that a pass verifies; 0: none
  std::string draft_weights = "auto";  // "int8": see QuantizedModel; "none"; "auto": int8 where it pays
  // What the language model decodes with: "model", its weights, or "int8", copies of them that are sooner read and not
  // as exact (WeightCopies); on CPUs only.
  std::string rollout_weights = "model";
  // What gradients of a CPU multiply with: "packed", copies of all models' weights where they pay (CpuProjection), or
  // "model", the weights as they lie.
  std::string gradient_weights = "packed";
  int max_queued_requests = 256;
  int64_t max_queued_tokens = 1 << 20;  // as EstimateTokens counts them
  int max_new_tokens_limit = 4096;      // caps of what a request may ask for
  int max_rollouts_limit = 1024;
  std::function<void(int64_t rows)> on_batch;  // after every forward pass, on an execution thread; must not block
  // What a request that started has cost, once it has ended, well or not; on its worker, ahead of `done`.
  std::function<void(const Usage& usage)> on_usage;
};

// What one engine is doing.
struct EngineLoad {
  std::string device;
  bool healthy = true;              // false: it has failed and been taken out
  bool stuck = false;               // it has work and made no progress for kStuckAfter
  int running = 0;                  // requests placed on it
  double kv_cache_usage_ratio = 0;  // promised to the requests on it, over the budget
  int64_t prefix_cache_hit_tokens = 0;
};

inline constexpr absl::Duration kStuckAfter = absl::Seconds(60);

struct PoolLoad {
  int running = 0;
  int waiting = 0;
  int64_t waiting_tokens = 0;
  int capacity = 0;  // requests that can run at once
  std::vector<EngineLoad> engines;
};

// How a request stands in the queue.
struct SubmitOptions {
  absl::Time deadline = absl::InfiniteFuture();  // counts time in the queue
  std::string client;                            // who asks; clients of one priority take turns by tokens
};

// A submitted request. Destroying the ticket does not stop the request.
class RequestTicket {
 public:
  virtual ~RequestTicket() = default;
  virtual void Cancel() = 0;  // thread-safe, idempotent; honoured within one decode or gradient step
};

using DoneCallback = std::function<void(absl::StatusOr<ReasonResult>)>;

// Makes an engine's reward model where it is not loaded from a folder (a remote one). What it computes itself runs on
// the engine's batcher and device. May block, until `stop`, if given, says stop. Called once an engine, and on behalf
// of a request whenever the model was replaced (RewardModel::replaced).
using RewardModelFactory = std::function<absl::StatusOr<std::unique_ptr<RewardModel>>(
    Batcher* batcher, const std::string& device, const StopToken* stop)>;

class EnginePool {
 public:
  // Loads the models, once a device. Errors name the file or the option and what was expected. `reward_model_factory`,
  // if given, takes the place of options.reward_model.
  static absl::StatusOr<std::unique_ptr<EnginePool>> Create(const EnginePoolOptions& options,
                                                            const RewardModelFactory& reward_model_factory = nullptr);

  virtual ~EnginePool() = default;

  // Queues the request. Errors come back at once, and then `done` is never called: INVALID_ARGUMENT or OUT_OF_RANGE
  // (bad request), RESOURCE_EXHAUSTED (queue full), UNAVAILABLE (shutting down, no engine left), FAILED_PRECONDITION
  // (needs a reward model, none is loaded). Otherwise `done` is called exactly once, from one of the pool's threads,
  // after the last event. `sink` must live until then. A request that is cancelled or expires in the queue leaves it at
  // once and never starts.
  virtual absl::StatusOr<std::shared_ptr<RequestTicket>> Submit(ReasonRequest request, SubmitOptions options,
                                                                EventSink* sink, DoneCallback done) = 0;

  // Refuses new requests, waits for running and queued ones until `deadline`, stops the rest, joins the workers.
  // Idempotent.
  virtual void Shutdown(absl::Time deadline) = 0;

  virtual PoolLoad load() const = 0;
  virtual ModelInfos models() const = 0;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_POOL_ENGINE_POOL_H_
