// Kinds of reward by name, as flags, the API and metrics write them.
//
//   RewardKindName(RewardKind::kVerdict)   // "verdict"
#ifndef NABLA_ENGINE_REWARD_REWARD_KIND_H_
#define NABLA_ENGINE_REWARD_REWARD_KIND_H_

#include <string>

#include "absl/status/statusor.h"
#include "engine/reward/reward_model.h"

namespace nabla {

const char* RewardKindName(RewardKind kind);

// "classifier", "likelihood" or "verdict"; else INVALID_ARGUMENT.
absl::StatusOr<RewardKind> ParseRewardKind(const std::string& name);

}  // namespace nabla

#endif  // NABLA_ENGINE_REWARD_REWARD_KIND_H_
