// What a reward server is started from, read out of its settings and checked.
//
//   NABLA_ASSIGN_OR_RETURN(RewardServerSetup setup, ReadRewardSetup(settings));
//   NABLA_RETURN_IF_ERROR(settings.Locate(CheckFiles(setup)));
//
// Pure functions but for CheckFiles, which looks at the disk.
#ifndef NABLA_SERVER_REWARD_CONFIG_H_
#define NABLA_SERVER_REWARD_CONFIG_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/reward/reward_engine.h"
#include "server/reward_server.h"
#include "server/settings.h"

namespace nabla {

struct RewardServerSetup {
  RewardEngineOptions engine;
  RewardServerOptions server;
};

// INVALID_ARGUMENT naming the setting, also for one that would have no effect.
absl::StatusOr<RewardServerSetup> ReadRewardSetup(Settings& settings);

// What can be known of the files without loading the model: they are there, certificates fit their keys, tokens are
// right.
absl::Status CheckFiles(const RewardServerSetup& setup);

}  // namespace nabla

#endif  // NABLA_SERVER_REWARD_CONFIG_H_
