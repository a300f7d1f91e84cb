// Steps drafted by a small model, of which the reward model keeps the best; the language model writes those for which
// no draft is good enough. Sources: reward-guided speculative decoding, Liao et al., arXiv 2501.19324 (the language
// model steps in by reward); SPECS, arXiv 2506.15733 (several drafts of a step).
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/strategy/branches.h"
#include "engine/strategy/strategy.h"

namespace nabla {
namespace {

class SpeculativeSearch {
 public:
  SpeculativeSearch(const SpeculativeCandidatesOptions& options, std::optional<int64_t> max_model_calls,
                    Session& session, Session& draft, ResponseScorer& scorer)
      : options_(options),
        session_(session),
        draft_(draft),
        branches_(session, &scorer, options.sampling, max_model_calls) {}

  absl::StatusOr<ReasonResult> Run() {
    NABLA_ASSIGN_OR_RETURN(double reward, branches_.Score(session_));  // of no answer at all
    Session* latest = nullptr;
    do {
      NABLA_ASSIGN_OR_RETURN(Step step, Draft());
      drafted_ = std::move(step.session);
      latest = drafted_.get();
      if (step.reward < reward - options_.max_reward_drop && !branches_.OutOfBudget()) {
        NABLA_ASSIGN_OR_RETURN(step, Write());
        written_ = std::move(step.session);
        latest = written_.get();
      }
      reward = step.reward;
      text_.assign(latest->response().begin(), latest->response().end());
      session_.Show(*latest);
    } while (!latest->finished() && !branches_.OutOfBudget());
    return branches_.Finish({{.session = latest, .reward = reward}}, /*chosen=*/0);
  }

 private:
  // The text so far and a step behind it.
  struct Step {
    std::unique_ptr<Session> session;
    double reward = 0;
  };

  // The best of several by the draft model.
  absl::StatusOr<Step> Draft() {
    Session& from = drafted_ != nullptr ? *drafted_ : draft_;
    std::vector<std::unique_ptr<Session>> owned;
    std::vector<Session*> sessions;
    std::vector<Candidate> candidates;
    for (int i = 0; i < options_.candidates; ++i) {
      NABLA_ASSIGN_OR_RETURN(std::unique_ptr<Session> branch, branches_.GrowBehind(text_, from));
      sessions.push_back(branch.get());
      candidates.push_back({.session = branch.get()});
      owned.push_back(std::move(branch));
    }
    NABLA_RETURN_IF_ERROR(branches_.RollOut(sessions, options_.separator));
    NABLA_RETURN_IF_ERROR(branches_.ScoreAll(absl::MakeSpan(candidates)));
    const size_t best = BestOf(candidates);
    return Step{.session = std::move(owned[best]), .reward = *candidates[best].reward};
  }

  // One by the language model.
  absl::StatusOr<Step> Write() {
    Step step;
    NABLA_ASSIGN_OR_RETURN(step.session, branches_.GrowBehind(text_, written_ != nullptr ? *written_ : session_));
    NABLA_RETURN_IF_ERROR(branches_.RollOut({step.session.get()}, options_.separator));
    NABLA_ASSIGN_OR_RETURN(step.reward, branches_.Score(*step.session));
    return step;
  }

  const SpeculativeCandidatesOptions& options_;
  Session& session_;
  Session& draft_;
  Branches branches_;
  std::vector<int32_t> text_;                   // so far
  std::unique_ptr<Session> drafted_, written_;  // what each of the models wrote last; null: nothing yet
};

}  // namespace

absl::StatusOr<ReasonResult> RunSpeculativeCandidates(const SpeculativeCandidatesOptions& options,
                                                      std::optional<int64_t> max_model_calls, Session& session,
                                                      Session& draft, ResponseScorer& scorer) {
  return SpeculativeSearch(options, max_model_calls, session, draft, scorer).Run();
}

}  // namespace nabla
