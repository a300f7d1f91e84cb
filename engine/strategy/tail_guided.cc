// Search guided by the upper tail of rewards: first steps are tried out by a few responses each, and the rest of the
// responses go behind the one whose best is expected to be best. Source: Qian, Li, Mou, arXiv 2602.01485, "SLG search".
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/strategy/branches.h"
#include "engine/strategy/strategy.h"
#include "engine/strategy/tail.h"

namespace nabla {
namespace {

class TailGuidedSearch {
 public:
  TailGuidedSearch(const TailGuidedOptions& options, std::optional<int64_t> max_model_calls, Session& session,
                   ResponseScorer& scorer)
      : options_(options), session_(session), branches_(session, &scorer, options.sampling, max_model_calls) {}

  absl::StatusOr<ReasonResult> Run() {
    NABLA_RETURN_IF_ERROR(TakeFirstSteps());
    NABLA_RETURN_IF_ERROR(Probe());
    if (Session* const promising = MostPromising()) {
      const int rest = options_.candidates - static_cast<int>(candidates_.size());
      for (int i = 0; i < rest; ++i) NABLA_RETURN_IF_ERROR(AddResponse(*promising));
      NABLA_RETURN_IF_ERROR(RollOutAndScore());
    }
    const std::vector<Candidate> complete = Complete(candidates_);
    return branches_.Finish(complete, BestOf(complete));
  }

 private:
  // A first step, and the rewards of the responses behind it.
  struct State {
    std::unique_ptr<Session> session;
    std::vector<double> rewards;
  };

  absl::Status TakeFirstSteps() {
    std::vector<Session*> sessions;
    for (int i = 0; i < options_.states; ++i) {
      NABLA_ASSIGN_OR_RETURN(std::unique_ptr<Session> branch, branches_.Grow(session_));
      sessions.push_back(branch.get());
      states_.push_back({.session = std::move(branch)});
    }
    return branches_.RollOut(sessions, options_.separator);
  }

  // A state that is finished with its first step is a response itself.
  absl::Status Probe() {
    for (State& state : states_) {
      if (state.session->finished()) {
        Add(*state.session);
        continue;
      }
      for (int i = 0; i < options_.probes; ++i) NABLA_RETURN_IF_ERROR(AddResponse(*state.session));
    }
    NABLA_RETURN_IF_ERROR(RollOutAndScore());
    size_t next = 0;
    for (State& state : states_) {
      if (state.session->finished()) {
        ++next;
        continue;
      }
      for (int i = 0; i < options_.probes; ++i) state.rewards.push_back(*candidates_[next++].reward);
    }
    return absl::OkStatus();
  }

  // Null where no response is left to be given, or no state to go on from.
  Session* MostPromising() const {
    const int rest = options_.candidates - static_cast<int>(candidates_.size());
    if (rest <= 0 || branches_.OutOfBudget()) return nullptr;
    const State* best = nullptr;
    double best_value = 0;
    for (const State& state : states_) {
      if (state.rewards.empty()) continue;
      const double value = ExpectedBest(state.rewards, options_.probes + rest);
      if (best == nullptr || value > best_value) best = &state, best_value = value;
    }
    return best == nullptr ? nullptr : best->session.get();
  }

  absl::Status AddResponse(Session& from) {
    NABLA_ASSIGN_OR_RETURN(std::unique_ptr<Session> branch, branches_.Grow(from));
    Add(*branch);
    responses_.push_back(std::move(branch));
    return absl::OkStatus();
  }

  void Add(Session& session) {
    candidates_.push_back({.index = static_cast<int>(candidates_.size()), .session = &session});
  }

  absl::Status RollOutAndScore() {
    std::vector<Session*> sessions;
    for (const Candidate& candidate : candidates_) sessions.push_back(candidate.session);
    NABLA_RETURN_IF_ERROR(branches_.RollOut(sessions));
    NABLA_RETURN_IF_ERROR(branches_.ScoreAll(absl::MakeSpan(candidates_)));
    session_.Show(*candidates_[BestOf(candidates_)].session);
    return absl::OkStatus();
  }

  const TailGuidedOptions& options_;
  Session& session_;
  Branches branches_;
  std::vector<State> states_;
  std::vector<std::unique_ptr<Session>> responses_;  // behind the states
  std::vector<Candidate> candidates_;
};

}  // namespace

absl::StatusOr<ReasonResult> RunTailGuided(const TailGuidedOptions& options, std::optional<int64_t> max_model_calls,
                                           Session& session, ResponseScorer& scorer) {
  return TailGuidedSearch(options, max_model_calls, session, scorer).Run();
}

}  // namespace nabla
