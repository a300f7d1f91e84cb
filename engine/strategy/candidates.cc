// Independent samples, decoded as one batch behind one prompt, of which one becomes the answer.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/strategy/branches.h"
#include "engine/strategy/strategy.h"
#include "engine/strategy/vote.h"

namespace nabla {
namespace {

// The session and `count` − 1 branches of it, kept in `owned`, rolled out; those that came to their end.
absl::StatusOr<std::vector<Candidate>> RollOut(int count, Session& session, Branches& branches,
                                               std::vector<std::unique_ptr<Session>>& owned) {
  std::vector<Candidate> candidates = {{.session = &session}};
  std::vector<Session*> sessions = {&session};
  for (int i = 1; i < count; ++i) {
    NABLA_ASSIGN_OR_RETURN(std::unique_ptr<Session> branch, branches.Grow(session));
    candidates.push_back({.index = i, .session = branch.get()});
    sessions.push_back(branch.get());
    owned.push_back(std::move(branch));
  }
  NABLA_RETURN_IF_ERROR(branches.RollOut(sessions));
  return Complete(candidates);
}

std::vector<std::string> Texts(const std::vector<Candidate>& candidates) {
  std::vector<std::string> texts;
  for (const Candidate& candidate : candidates) texts.push_back(candidate.session->ResponseText());
  return texts;
}

// Numerators of a softmax of the rewards.
std::vector<double> Shares(const std::vector<Candidate>& candidates) {
  const double largest = *candidates[BestOf(candidates)].reward;
  std::vector<double> shares;
  for (const Candidate& candidate : candidates) shares.push_back(std::exp(*candidate.reward - largest));
  return shares;
}

// The best of those with the answer of the largest sum of shares.
size_t WeightedBestOf(const std::vector<Candidate>& candidates) {
  const std::vector<size_t> elected = Elect(Texts(candidates), Shares(candidates));
  return *std::max_element(elected.begin(), elected.end(),
                           [&](size_t a, size_t b) { return *candidates[a].reward < *candidates[b].reward; });
}

}  // namespace

absl::StatusOr<ReasonResult> RunBestOfN(const BestOfNOptions& options, std::optional<int64_t> max_model_calls,
                                        Session& session, ResponseScorer& scorer) {
  Branches branches(session, &scorer, options.sampling, max_model_calls);
  std::vector<std::unique_ptr<Session>> owned;
  NABLA_ASSIGN_OR_RETURN(std::vector<Candidate> candidates, RollOut(options.candidates, session, branches, owned));
  NABLA_RETURN_IF_ERROR(branches.ScoreAll(absl::MakeSpan(candidates)));
  ReasonResult result = branches.Finish(candidates, options.weighted ? WeightedBestOf(candidates) : BestOf(candidates));
  result.initial_reward = candidates[0].reward;
  return result;
}

absl::StatusOr<ReasonResult> RunSelfConsistency(const SelfConsistencyOptions& options,
                                                std::optional<int64_t> max_model_calls, Session& session) {
  Branches branches(session, /*scorer=*/nullptr, options.sampling, max_model_calls);
  std::vector<std::unique_ptr<Session>> owned;
  NABLA_ASSIGN_OR_RETURN(std::vector<Candidate> candidates, RollOut(options.candidates, session, branches, owned));
  return branches.Finish(candidates, Elect(Texts(candidates), std::vector<double>(candidates.size(), 1)).front());
}

}  // namespace nabla
