// Many samples, decoded as one batch behind one prompt, of which one becomes the answer.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/strategy/strategy.h"
#include "engine/strategy/vote.h"

namespace nabla {
namespace {

constexpr uint64_t kSeedStep = 0x9e3779b97f4a7c15;  // SplitMix64's

// The session and its branches, rolled out.
class Candidates {
 public:
  explicit Candidates(Session& session) : session_(session) {}

  absl::Status RollOut(int count, const SamplingOptions& sampling, std::optional<int64_t> max_model_calls) {
    for (int i = 1; i < count; ++i) {
      NABLA_ASSIGN_OR_RETURN(std::unique_ptr<Session> branch, session_.Branch(session_.seed() + i * kSeedStep));
      branches_.push_back(std::move(branch));
    }
    return session_.RollOutTogether(branches_, sampling, max_model_calls);
  }

  size_t size() const { return branches_.size() + 1; }
  const Session& at(size_t i) const { return i == 0 ? session_ : *branches_[i - 1]; }

  // Those that came to their end; all of them where the budget left none the time.
  std::vector<size_t> Complete() const {
    std::vector<size_t> all(size()), complete;
    for (size_t i = 0; i < size(); ++i) {
      all[i] = i;
      if (at(i).finished()) complete.push_back(i);
    }
    return complete.empty() ? all : complete;
  }

  std::vector<std::string> Texts(const std::vector<size_t>& chosen) const {
    std::vector<std::string> texts;
    for (const size_t i : chosen) texts.push_back(at(i).ResponseText());
    return texts;
  }

  // Tells what the choice was made among and commits one of `complete`, the `chosen`-th. `rewards`: one of each, or
  // none.
  ReasonResult Finish(const std::vector<size_t>& complete, const std::vector<double>& rewards, size_t chosen) {
    for (size_t i = 0; i < complete.size(); ++i) {
      const absl::Span<const int32_t> response = at(complete[i]).response();
      CandidateEvent event{.index = static_cast<int>(complete[i]), .chosen = i == chosen};
      event.token_ids.assign(response.begin(), response.end());
      event.text = at(complete[i]).ResponseText();
      if (!rewards.empty()) event.reward = rewards[i];
      session_.sink().OnEvent(std::move(event));
    }
    if (complete[chosen] > 0) session_.Adopt(*branches_[complete[chosen] - 1]);
    session_.CommitAll();
    return FinishedResult(session_, session_.finished() ? session_.finish_reason() : FinishReason::kModelCallBudget);
  }

 private:
  Session& session_;
  std::vector<std::unique_ptr<Session>> branches_;
};

// Numerators of a softmax.
std::vector<double> Shares(const std::vector<double>& rewards) {
  const double largest = *std::max_element(rewards.begin(), rewards.end());
  std::vector<double> shares;
  for (const double reward : rewards) shares.push_back(std::exp(reward - largest));
  return shares;
}

}  // namespace

absl::StatusOr<ReasonResult> RunBestOfN(const BestOfNOptions& options, std::optional<int64_t> max_model_calls,
                                        Session& session, ResponseScorer& scorer) {
  Candidates candidates(session);
  NABLA_RETURN_IF_ERROR(candidates.RollOut(options.candidates, options.sampling, max_model_calls));
  const std::vector<size_t> complete = candidates.Complete();
  const absl::Time start = absl::Now();
  std::vector<double> rewards;
  for (const size_t candidate : complete) {
    NABLA_RETURN_IF_ERROR(session.stop().Check());
    NABLA_ASSIGN_OR_RETURN(const double reward, scorer.Score(candidates.at(candidate).response()));
    rewards.push_back(reward);
    session.usage().model_calls += kCallsPerScore;
  }
  session.usage().reward_time += absl::Now() - start;
  std::vector<double> eligible = rewards;
  if (options.weighted) {
    std::fill(eligible.begin(), eligible.end(), -std::numeric_limits<double>::infinity());
    for (const size_t i : Elect(candidates.Texts(complete), Shares(rewards))) eligible[i] = rewards[i];
  }
  const size_t best = std::max_element(eligible.begin(), eligible.end()) - eligible.begin();
  ReasonResult result = candidates.Finish(complete, rewards, best);
  result.initial_reward = rewards[0];
  result.reward = rewards[best];
  return result;
}

absl::StatusOr<ReasonResult> RunSelfConsistency(const SelfConsistencyOptions& options,
                                                std::optional<int64_t> max_model_calls, Session& session) {
  Candidates candidates(session);
  NABLA_RETURN_IF_ERROR(candidates.RollOut(options.candidates, options.sampling, max_model_calls));
  const std::vector<size_t> complete = candidates.Complete();
  const std::vector<size_t> elected = Elect(candidates.Texts(complete), std::vector<double>(complete.size(), 1));
  return candidates.Finish(complete, {}, elected.front());
}

}  // namespace nabla
