#include "engine/strategy/strategy.h"

#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace nabla {

absl::StatusOr<ReasonResult> RunStrategy(const ReasonRequest& request, Session& session, ResponseScorer* scorer,
                                         Session* draft, absl::Span<ResponseScorer* const> guards) {
  const StrategyOptions& strategy = request.strategy;
  const auto* nabla = std::get_if<NablaOptions>(&strategy);
  if (NeedsReward(strategy) && scorer == nullptr && (nabla == nullptr || !nabla->continue_without_reward)) {
    return absl::FailedPreconditionError(absl::StrCat("strategy ", StrategyName(strategy), " needs a reward model"));
  }
  if (NeedsDraftModel(strategy) && draft == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("strategy ", StrategyName(strategy), " needs a draft model"));
  }
  if (nabla != nullptr) return RunNabla(*nabla, request.max_model_calls, session, scorer, guards);
  if (const auto* sample = std::get_if<SampleOptions>(&strategy)) return RunSample(*sample, session);
  if (const auto* self_consistency = std::get_if<SelfConsistencyOptions>(&strategy)) {
    return RunSelfConsistency(*self_consistency, request.max_model_calls, session);
  }
  if (const auto* best_of_n = std::get_if<BestOfNOptions>(&strategy)) {
    return RunBestOfN(*best_of_n, request.max_model_calls, session, *scorer);
  }
  if (const auto* beam = std::get_if<BeamOptions>(&strategy)) {
    return RunBeam(*beam, request.max_model_calls, session, *scorer);
  }
  if (const auto* tail_guided = std::get_if<TailGuidedOptions>(&strategy)) {
    return RunTailGuided(*tail_guided, request.max_model_calls, session, *scorer);
  }
  if (const auto* policy_gradient = std::get_if<PolicyGradientOptions>(&strategy)) {
    return RunPolicyGradient(*policy_gradient, request.max_model_calls, session, *scorer);
  }
  if (const auto* speculative = std::get_if<SpeculativeCandidatesOptions>(&strategy)) {
    return RunSpeculativeCandidates(*speculative, request.max_model_calls, session, *draft, *scorer);
  }
  return RunGreedy(session);
}

ReasonResult FinishedResult(const Session& session, FinishReason reason) {
  ReasonResult result{.finish_reason = reason, .text = session.committed_text()};
  result.token_ids.assign(session.response().begin(), session.response().end());
  return result;
}

}  // namespace nabla
