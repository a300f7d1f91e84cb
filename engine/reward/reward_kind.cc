#include "engine/reward/reward_kind.h"

#include "absl/strings/str_cat.h"

namespace nabla {

const char* RewardKindName(RewardKind kind) {
  switch (kind) {
    case RewardKind::kClassifier:
      return "classifier";
    case RewardKind::kLikelihood:
      return "likelihood";
    case RewardKind::kVerdict:
      break;
  }
  return "verdict";
}

absl::StatusOr<RewardKind> ParseRewardKind(const std::string& name) {
  for (const RewardKind kind : {RewardKind::kClassifier, RewardKind::kLikelihood, RewardKind::kVerdict}) {
    if (name == RewardKindName(kind)) return kind;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("reward kind is \"", name, "\"; expected classifier, likelihood, verdict or auto"));
}

}  // namespace nabla
