#include "engine/strategy/strategy.h"

#include <variant>

#include "absl/status/status.h"

namespace nabla {

bool NeedsReward(const StrategyOptions& options) { return std::holds_alternative<NablaOptions>(options); }

absl::StatusOr<ReasonResult> RunStrategy(const ReasonRequest& request, Session& session, ResponseScorer* scorer) {
  if (const auto* sample = std::get_if<SampleOptions>(&request.strategy)) return RunSample(*sample, session);
  if (const auto* nabla = std::get_if<NablaOptions>(&request.strategy)) {
    if (scorer == nullptr && !nabla->continue_without_reward) {
      return absl::FailedPreconditionError("strategy nabla needs a reward model");
    }
    return RunNabla(*nabla, request.max_model_calls, session, scorer);
  }
  return RunGreedy(session);
}

ReasonResult FinishedResult(const Session& session, FinishReason reason) {
  ReasonResult result{.finish_reason = reason, .text = session.committed_text()};
  result.token_ids.assign(session.response().begin(), session.response().end());
  return result;
}

}  // namespace nabla
