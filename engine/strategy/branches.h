// What strategies with several responses share: branches of a request's session that have seeds of their own, are
// rolled out as one batch and scored, and one of which becomes the answer.
//
//   Branches branches(session, scorer, sampling, max_model_calls);
//   NABLA_ASSIGN_OR_RETURN(std::unique_ptr<Session> branch, branches.Grow(session));
//   NABLA_RETURN_IF_ERROR(branches.RollOut({&session, branch.get()}));
//   return branches.Finish({{.index = 0, .session = &session}, {.index = 1, .session = branch.get()}}, /*chosen=*/1);
//
// One request's and one thread's. Costs go to the session's usage.
#ifndef NABLA_ENGINE_STRATEGY_BRANCHES_H_
#define NABLA_ENGINE_STRATEGY_BRANCHES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/event.h"
#include "engine/base/request.h"
#include "engine/decode/session.h"
#include "engine/reward/response_scorer.h"

namespace nabla {

// A response that may become the answer.
struct Candidate {
  int index = 0;  // as the caller is told
  Session* session = nullptr;
  std::optional<double> reward;
};

class Branches {
 public:
  // `scorer` may be null where nothing is scored. All outlive the branches.
  Branches(Session& session, ResponseScorer* scorer, const SamplingOptions& sampling,
           std::optional<int64_t> max_model_calls)
      : session_(session), scorer_(scorer), sampling_(sampling), max_model_calls_(max_model_calls) {}

  // A branch behind the text of `from`, this request's session or a branch of it. The n-th has the n-th seed behind the
  // request's.
  absl::StatusOr<std::unique_ptr<Session>> Grow(Session& from);

  // The same behind `text`, of which `from` has as much as it has; it is not empty where `from` is not.
  absl::StatusOr<std::unique_ptr<Session>> GrowBehind(absl::Span<const int32_t> text, Session& from);

  // To their ends, or to that of a step (Session::RollOutTogether), or of the budget.
  absl::Status RollOut(absl::Span<Session* const> sessions, const std::string& separator = "") {
    return session_.RollOutTogether(sessions, sampling_, max_model_calls_, separator);
  }
  bool OutOfBudget() const { return max_model_calls_ && session_.usage().model_calls >= *max_model_calls_; }

  // The reward of the text as it stands. Checks the stop token first.
  absl::StatusOr<double> Score(const Session& session);

  // Gives a reward to those that have none.
  absl::Status ScoreAll(absl::Span<Candidate> candidates);

  // Tells what the choice was made among, and commits the text of candidates[chosen], whose session loses it.
  ReasonResult Finish(absl::Span<const Candidate> candidates, size_t chosen);

 private:
  Session& session_;
  ResponseScorer* const scorer_;
  const SamplingOptions& sampling_;
  const std::optional<int64_t> max_model_calls_;
  uint64_t grown_ = 0;
};

// Those whose responses came to their end; all of them where the budget left none the time.
std::vector<Candidate> Complete(absl::Span<const Candidate> candidates);

// The place of the largest reward; of equals the first. All have one.
size_t BestOf(absl::Span<const Candidate> candidates);

}  // namespace nabla

#endif  // NABLA_ENGINE_STRATEGY_BRANCHES_H_
