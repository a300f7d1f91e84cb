#include "engine/strategy/strategy.h"

#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace nabla {

bool NeedsReward(const StrategyOptions& options) {
  return std::holds_alternative<NablaOptions>(options) || std::holds_alternative<BestOfNOptions>(options);
}

absl::StatusOr<ReasonResult> RunStrategy(const ReasonRequest& request, Session& session, ResponseScorer* scorer) {
  if (const auto* sample = std::get_if<SampleOptions>(&request.strategy)) return RunSample(*sample, session);
  if (const auto* self_consistency = std::get_if<SelfConsistencyOptions>(&request.strategy)) {
    return RunSelfConsistency(*self_consistency, request.max_model_calls, session);
  }
  const auto* nabla = std::get_if<NablaOptions>(&request.strategy);
  if (NeedsReward(request.strategy) && scorer == nullptr && (nabla == nullptr || !nabla->continue_without_reward)) {
    return absl::FailedPreconditionError(
        absl::StrCat("strategy ", StrategyName(request.strategy), " needs a reward model"));
  }
  if (nabla != nullptr) return RunNabla(*nabla, request.max_model_calls, session, scorer);
  if (const auto* best_of_n = std::get_if<BestOfNOptions>(&request.strategy)) {
    return RunBestOfN(*best_of_n, request.max_model_calls, session, *scorer);
  }
  return RunGreedy(session);
}

ReasonResult FinishedResult(const Session& session, FinishReason reason) {
  ReasonResult result{.finish_reason = reason, .text = session.committed_text()};
  result.token_ids.assign(session.response().begin(), session.response().end());
  return result;
}

}  // namespace nabla
