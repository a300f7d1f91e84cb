// Beam search over steps, guided by the reward of the text so far; with subtrees that do not compete (diverse verifier
// tree search). Source: Snell et al., arXiv 2408.03314, section 5.2.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/strategy/branches.h"
#include "engine/strategy/strategy.h"

namespace nabla {
namespace {

struct Hypothesis {
  std::unique_ptr<Session> session;
  int subtree = 0;
  double reward = 0;
};

class Beam {
 public:
  Beam(const BeamOptions& options, std::optional<int64_t> max_model_calls, Session& session, ResponseScorer& scorer)
      : options_(options), session_(session), branches_(session, &scorer, options.sampling, max_model_calls) {}

  absl::StatusOr<ReasonResult> Run() {
    for (int i = 0; i < options_.width * options_.expansions; ++i) {
      NABLA_RETURN_IF_ERROR(Add(session_, i % options_.subtrees));
    }
    while (true) {
      NABLA_RETURN_IF_ERROR(Step());
      Prune();
      session_.Show(*hypotheses_.front().session);
      const bool all_finished = std::all_of(hypotheses_.begin(), hypotheses_.end(),
                                            [](const Hypothesis& one) { return one.session->finished(); });
      if (all_finished || branches_.OutOfBudget()) return Finish();
      NABLA_RETURN_IF_ERROR(Expand());
    }
  }

 private:
  absl::Status Add(Session& from, int subtree) {
    NABLA_ASSIGN_OR_RETURN(std::unique_ptr<Session> branch, branches_.Grow(from));
    hypotheses_.push_back({.session = std::move(branch), .subtree = subtree});
    return absl::OkStatus();
  }

  // Another step, and a new reward, for every hypothesis that is not finished.
  absl::Status Step() {
    std::vector<Hypothesis*> going;
    std::vector<Session*> sessions;
    for (Hypothesis& one : hypotheses_) {
      if (one.session->finished()) continue;
      going.push_back(&one);
      sessions.push_back(one.session.get());
    }
    NABLA_RETURN_IF_ERROR(branches_.RollOut(sessions, options_.separator));
    for (Hypothesis* one : going) {
      NABLA_ASSIGN_OR_RETURN(one->reward, branches_.Score(*one->session));
    }
    return absl::OkStatus();
  }

  // Keeps each subtree's best, the best of all first.
  void Prune() {
    std::stable_sort(hypotheses_.begin(), hypotheses_.end(),
                     [](const Hypothesis& a, const Hypothesis& b) { return a.reward > b.reward; });
    std::vector<int> room(options_.subtrees, options_.width / options_.subtrees);
    const auto surplus = [&](const Hypothesis& one) { return --room[one.subtree] < 0; };
    hypotheses_.erase(std::remove_if(hypotheses_.begin(), hypotheses_.end(), surplus), hypotheses_.end());
  }

  // Every unfinished hypothesis goes on itself and as `expansions` − 1 branches.
  absl::Status Expand() {
    const size_t kept = hypotheses_.size();
    for (size_t i = 0; i < kept; ++i) {
      if (hypotheses_[i].session->finished()) continue;
      for (int k = 1; k < options_.expansions; ++k) {
        NABLA_RETURN_IF_ERROR(Add(*hypotheses_[i].session, hypotheses_[i].subtree));
      }
    }
    return absl::OkStatus();
  }

  ReasonResult Finish() {
    std::vector<Candidate> candidates;
    for (const Hypothesis& one : hypotheses_) {
      candidates.push_back(
          {.index = static_cast<int>(candidates.size()), .session = one.session.get(), .reward = one.reward});
    }
    const std::vector<Candidate> complete = Complete(candidates);
    return branches_.Finish(complete, BestOf(complete));
  }

  const BeamOptions& options_;
  Session& session_;
  Branches branches_;
  std::vector<Hypothesis> hypotheses_;
};

}  // namespace

absl::StatusOr<ReasonResult> RunBeam(const BeamOptions& options, std::optional<int64_t> max_model_calls,
                                     Session& session, ResponseScorer& scorer) {
  return Beam(options, max_model_calls, session, scorer).Run();
}

}  // namespace nabla
