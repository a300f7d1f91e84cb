// Owns the engines and every thread that runs requests: a bounded queue in front, worker threads behind.
//
//   auto pool = EnginePool::Create({.model = {.path = "models/writer"}, .reward_model = RewardModelOptions{.path =
//   "models/judge"}}); auto ticket = (*pool)->Submit(request, deadline, &sink, [](absl::StatusOr<ReasonResult> result)
//   { … });
//   (*ticket)->Cancel();
//
// Thread-safe. Submit never blocks and never runs the request on the caller's thread. Models are loaded once and shared
// by all workers.
#ifndef NABLA_ENGINE_POOL_ENGINE_POOL_H_
#define NABLA_ENGINE_POOL_ENGINE_POOL_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/strategy/event.h"
#include "engine/strategy/request.h"

namespace nabla {

struct ModelOptions {
  std::string path;             // folder in Hugging Face layout
  std::string dtype = "auto";   // "float32", "bfloat16" or "auto" (what config.json says)
  std::string device = "auto";  // "cpu", "cuda:N" or "auto" (CUDA where there is one)
  int max_length = 0;           // prompt and response tokens of one request; 0: the model's own limit, at most 8192
};

struct RewardModelOptions {
  std::string path;
  std::string kind = "auto";  // "classifier", "likelihood", "verdict" or "auto" (classifier for
                              // …ForSequenceClassification, else likelihood)
  std::string dtype = "auto";
  std::string device = "auto";
  int max_length = 0;
  std::string verdict_question = "Is the answer above correct? Reply with Yes or No.";
  std::string verdict_yes = "Yes";
  std::string verdict_no = "No";
};

struct EnginePoolOptions {
  ModelOptions model;
  std::optional<RewardModelOptions> reward_model;  // without one, strategies that need rewards are refused
  int workers = 0;                                 // requests that run at once; 0: one a core, at most 8
  int threads_per_worker = 0;  // threads of one request's tensor operations; 0: cores / workers, at least 1
  int max_queued_requests = 256;
  int max_new_tokens_limit = 4096;  // caps of what a request may ask for
  int max_rollouts_limit = 1024;
};

// What GetInfo and the gauges show.
struct ModelInfo {
  std::string name;          // last part of the path
  std::string architecture;  // "LlamaForCausalLM"
  std::string dtype;
  std::string device;
  std::string reward_kind;  // of a reward model; else empty
  int64_t parameters = 0;
  int vocabulary_size = 0;
  int max_length = 0;
};

struct PoolLoad {
  int running = 0;
  int waiting = 0;
  int workers = 0;
  double kv_cache_usage_ratio = 0;  // key/value bytes held by running requests over what all workers could hold
};

// A submitted request. Destroying the ticket does not stop the request.
class RequestTicket {
 public:
  virtual ~RequestTicket() = default;
  virtual void Cancel() = 0;  // thread-safe, idempotent; honoured within one decode or gradient step
};

using DoneCallback = std::function<void(absl::StatusOr<ReasonResult>)>;

class EnginePool {
 public:
  // Loads the models and starts the workers. Errors name the file or the option and what was expected.
  static absl::StatusOr<std::unique_ptr<EnginePool>> Create(const EnginePoolOptions& options);

  virtual ~EnginePool() = default;

  // Queues the request. Errors come back at once, and then `done` is never called: INVALID_ARGUMENT or OUT_OF_RANGE
  // (bad request), RESOURCE_EXHAUSTED (queue full), UNAVAILABLE (shutting down), FAILED_PRECONDITION (needs a reward
  // model, none is loaded). Otherwise `done` is called exactly once, from a worker thread, after the last event. `sink`
  // must live until then.
  virtual absl::StatusOr<std::shared_ptr<RequestTicket>> Submit(ReasonRequest request, absl::Time deadline,
                                                                EventSink* sink, DoneCallback done) = 0;

  // Refuses new requests, waits for running and queued ones until `deadline`, stops the rest, joins the workers.
  // Idempotent.
  virtual void Shutdown(absl::Time deadline) = 0;

  virtual PoolLoad load() const = 0;
  virtual const ModelInfo& model_info() const = 0;
  virtual const std::optional<ModelInfo>& reward_model_info() const = 0;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_POOL_ENGINE_POOL_H_
