// The flags of nabla-reward-server and what they say. Flags are the only global state of the process.
//
//   absl::ParseCommandLine(argc, argv);
//   NABLA_ASSIGN_OR_RETURN(RewardCommandLine command_line, ReadRewardFlags());
#ifndef NABLA_SERVER_REWARD_FLAGS_H_
#define NABLA_SERVER_REWARD_FLAGS_H_

#include "absl/status/statusor.h"
#include "engine/reward/reward_engine.h"
#include "server/reward_server.h"

namespace nabla {

struct RewardCommandLine {
  RewardEngineOptions engine;
  RewardServerOptions server;
};

// INVALID_ARGUMENT "--flag: what is wrong", also for a flag that would have no effect.
absl::StatusOr<RewardCommandLine> ReadRewardFlags();

// Shapes --help and --version: all of this program's flags, paths as in the source tree.
void SetUpRewardUsage();

}  // namespace nabla

#endif  // NABLA_SERVER_REWARD_FLAGS_H_
