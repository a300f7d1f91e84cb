// The strategies, one file each: what a request's worker runs from start to end.
//
//   absl::StatusOr<ReasonResult> result = RunStrategy(request, session, scorer);
//
// Straight-line code over a Session and a ResponseScorer; no threads, no locks. Events go to the session's sink, costs
// to its usage. Blocks until done; ends early with the stop token's status. `scorer` may be null for strategies that
// need no reward, and for nabla where the reward model was lost before it began: it then gives its first rollout.
#ifndef NABLA_ENGINE_STRATEGY_STRATEGY_H_
#define NABLA_ENGINE_STRATEGY_STRATEGY_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/event.h"
#include "engine/base/request.h"
#include "engine/decode/session.h"
#include "engine/reward/response_scorer.h"

namespace nabla {

inline constexpr int kCallsPerScore = 1;  // model calls of a response scored, beside those of the paper

// `draft`: a session of the same prompt on the draft model, for the strategy that needs one. `guards`: of the guard
// models, where nabla is to ask them.
absl::StatusOr<ReasonResult> RunStrategy(const ReasonRequest& request, Session& session, ResponseScorer* scorer,
                                         Session* draft = nullptr, absl::Span<ResponseScorer* const> guards = {});

absl::StatusOr<ReasonResult> RunGreedy(Session& session);
absl::StatusOr<ReasonResult> RunSample(const SampleOptions& options, Session& session);
absl::StatusOr<ReasonResult> RunBestOfN(const BestOfNOptions& options, std::optional<int64_t> max_model_calls,
                                        Session& session, ResponseScorer& scorer);
absl::StatusOr<ReasonResult> RunSelfConsistency(const SelfConsistencyOptions& options,
                                                std::optional<int64_t> max_model_calls, Session& session);
absl::StatusOr<ReasonResult> RunBeam(const BeamOptions& options, std::optional<int64_t> max_model_calls,
                                     Session& session, ResponseScorer& scorer);
absl::StatusOr<ReasonResult> RunTailGuided(const TailGuidedOptions& options, std::optional<int64_t> max_model_calls,
                                           Session& session, ResponseScorer& scorer);
absl::StatusOr<ReasonResult> RunPolicyGradient(const PolicyGradientOptions& options,
                                               std::optional<int64_t> max_model_calls, Session& session,
                                               ResponseScorer& scorer);
absl::StatusOr<ReasonResult> RunSpeculativeCandidates(const SpeculativeCandidatesOptions& options,
                                                      std::optional<int64_t> max_model_calls, Session& session,
                                                      Session& draft, ResponseScorer& scorer);
absl::StatusOr<ReasonResult> RunNabla(const NablaOptions& options, std::optional<int64_t> max_model_calls,
                                      Session& session, ResponseScorer* scorer,
                                      absl::Span<ResponseScorer* const> guards = {});

// The committed response as a result; the pool adds the usage.
ReasonResult FinishedResult(const Session& session, FinishReason reason);

}  // namespace nabla

#endif  // NABLA_ENGINE_STRATEGY_STRATEGY_H_
