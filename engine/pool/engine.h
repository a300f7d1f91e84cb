// One device: its models, the memory of their keys and values, one execution thread; and how a request runs on it.
//
//   absl::StatusOr<Engine::Prepared> prepared = engine->Prepare(request);
//   if (engine->TryReserve(prepared->kv_tokens)) {
//     absl::StatusOr<ReasonResult> result = engine->Run(*prepared, queue_time, stop, sink);   // blocks
//     engine->Release(prepared->kv_tokens);
//   }
//
// Thread-safe: any number of threads may be in Run at once; the engine merges their decode steps into one batch.
#ifndef NABLA_ENGINE_POOL_ENGINE_H_
#define NABLA_ENGINE_POOL_ENGINE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/event.h"
#include "engine/base/request.h"
#include "engine/base/stop_token.h"
#include "engine/pool/engine_pool.h"

namespace nabla {

class Engine {
 public:
  // A request that was found to be valid, with its prompt tokenised.
  struct Prepared {
    ReasonRequest request;
    std::vector<int32_t> prompt_ids;
    int64_t kv_tokens = 0;  // positions of key/value memory that it may come to hold, for TryReserve
  };

  virtual ~Engine() = default;

  // Checks everything that can be checked without running the models. The same on every engine of a pool.
  virtual absl::StatusOr<Prepared> Prepare(ReasonRequest request) const = 0;

  // Sets key/value memory aside for a request; false where there is not enough left. Never blocks.
  virtual bool TryReserve(int64_t kv_tokens) = 0;
  virtual void Release(int64_t kv_tokens) = 0;

  // Runs the request from start to end on the calling thread. `queue_time` goes into the result's usage. UNAVAILABLE
  // once the engine has failed.
  virtual absl::StatusOr<ReasonResult> Run(const Prepared& prepared, absl::Duration queue_time, const StopToken& stop,
                                           EventSink& sink) = 0;

  // `running` is the pool's to fill.
  virtual EngineLoad load() const = 0;

  virtual ModelInfos models() const = 0;
};

// Tokens that a request may cost, for admission: its prompt, and its response once for every rollout it may make.
int64_t EstimateTokens(const Engine::Prepared& prepared);

}  // namespace nabla

#endif  // NABLA_ENGINE_POOL_ENGINE_H_
