// From the settings of nabla-server to a reward model in another process, one connection an engine.
//
//   EnginePool::Create(setup.pool, RemoteRewardFactory(*setup.remote_reward, on_rpc, log));
//
// The factory is thread-safe and blocks until the service has answered. Projections run on the engine's batcher.
#ifndef NABLA_SERVER_REMOTE_REWARD_FACTORY_H_
#define NABLA_SERVER_REMOTE_REWARD_FACTORY_H_

#include <functional>

#include "absl/status/status.h"
#include "engine/pool/engine_pool.h"
#include "server/config.h"
#include "server/log.h"

namespace nabla {

// `on_rpc` is told how every call ended, `log` what takes the place of a model that was replaced; both thread-safe,
// must not block.
RewardModelFactory RemoteRewardFactory(const RemoteRewardOptions& options, std::function<void(absl::StatusCode)> on_rpc,
                                       LogSink log);

}  // namespace nabla

#endif  // NABLA_SERVER_REMOTE_REWARD_FACTORY_H_
