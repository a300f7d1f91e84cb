// The flags of nabla-reward-server and what they say.
#ifndef NABLA_SERVER_REWARD_FLAGS_H_
#define NABLA_SERVER_REWARD_FLAGS_H_

#include "server/program.h"

namespace nabla {

// Whose config file is a RewardServerConfig.
const Program& RewardServerProgram();

}  // namespace nabla

#endif  // NABLA_SERVER_REWARD_FLAGS_H_
