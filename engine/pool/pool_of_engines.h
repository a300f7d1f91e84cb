// Builds the pool over engines that exist already: EnginePool::Create does so with real ones, tests with fakes.
//
//   NABLA_RETURN_IF_ERROR(ValidateEnginePoolOptions(options));
//   std::unique_ptr<EnginePool> pool = MakeEnginePool(options, std::move(engines));
//
// How the pool works. Submit prepares the request on the caller's thread and puts it into the admission queue
// (admission_queue.h). The head of the queue is placed as soon as a healthy engine has a free place and can reserve the
// request's key/value memory: on the one with the fewest running requests, then the lowest memory usage; a stuck engine
// only where there is no other. A head that fits nowhere waits, and nobody overtakes it for being smaller, so that big
// requests do not starve; only a later request of higher priority goes before it. One that no engine has the memory
// for, even when all of them are idle, ends with OUT_OF_RANGE.
//
// Threads: one a running request, started when first needed, at most max_running_requests an engine; and a
// housekeeper, which wakes at deadlines and calls `done` for requests that never start. So neither Submit nor Cancel
// ever calls `done`, and no lock is held where it is called; it may use the pool, except for Shutdown. A ticket may
// outlive the pool.
//
// An engine whose load() is not healthy any more gets no more requests; those it runs end as its Run says. Without a
// healthy engine all that wait end with UNAVAILABLE, and Submit refuses.
#ifndef NABLA_ENGINE_POOL_POOL_OF_ENGINES_H_
#define NABLA_ENGINE_POOL_POOL_OF_ENGINES_H_

#include <memory>
#include <vector>

#include "engine/pool/engine.h"
#include "engine/pool/engine_pool.h"

namespace nabla {

// `options` are valid (limits.h), `engines` is not empty, and all of them serve the same models. Of the options only
// the limits are used: what concerns models and devices has gone into the engines.
std::unique_ptr<EnginePool> MakeEnginePool(const EnginePoolOptions& options,
                                           std::vector<std::unique_ptr<Engine>> engines);

}  // namespace nabla

#endif  // NABLA_ENGINE_POOL_POOL_OF_ENGINES_H_
