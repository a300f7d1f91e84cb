// Revises the first part of a response by policy gradient on the hidden states behind it, with nothing of the reward
// but its number. Source: LatentSeek, arXiv 2505.13308, with advantages instead of bare rewards.
#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/refine/prefix_policy.h"
#include "engine/strategy/branches.h"
#include "engine/strategy/strategy.h"

namespace nabla {
namespace {

class PolicyGradientSearch {
 public:
  PolicyGradientSearch(const PolicyGradientOptions& options, std::optional<int64_t> max_model_calls, Session& session,
                       ResponseScorer& scorer)
      : options_(options), session_(session), branches_(session, &scorer, options.rollout, max_model_calls) {}

  absl::StatusOr<ReasonResult> Run() {
    NABLA_RETURN_IF_ERROR(session_.RollOut(options_.rollout, Session::Stream::kDraft));
    first_.assign(session_.response().begin(), session_.response().end());
    NABLA_ASSIGN_OR_RETURN(best_reward_, branches_.Score(session_));
    rewards_.push_back(best_reward_);
    const double rows = std::ceil(options_.fraction * static_cast<double>(first_.size()));
    PrefixPolicy policy(session_, static_cast<int>(rows), options_.learning_rate);
    for (int i = 1; i < options_.max_rollouts && !TargetReached() && !branches_.OutOfBudget(); ++i) {
      NABLA_ASSIGN_OR_RETURN(const std::vector<int32_t> prefix, policy.Draw(session_, options_.resample));
      NABLA_ASSIGN_OR_RETURN(const double reward, Try(prefix));
      rewards_.push_back(reward);
      NABLA_ASSIGN_OR_RETURN(const double norm, policy.Reinforce(prefix, Advantage()));
      session_.sink().OnEvent(
          ProgressEvent{.gradient_steps = 1, .model_calls = session_.usage().model_calls, .gradient_norm = norm});
    }
    return Finish();
  }

 private:
  bool TargetReached() const { return options_.target_reward && best_reward_ >= *options_.target_reward; }

  // Of the last reward: its distance from the mean of all so far, in their standard deviations.
  double Advantage() const {
    double mean = 0, variance = 0;
    for (const double reward : rewards_) mean += reward / static_cast<double>(rewards_.size());
    for (const double reward : rewards_) {
      variance += (reward - mean) * (reward - mean) / static_cast<double>(rewards_.size());
    }
    constexpr double kLeastDeviation = 1e-6;
    return (rewards_.back() - mean) / std::max(std::sqrt(variance), kLeastDeviation);
  }

  // The reward of the response that begins with `prefix`; the best so far is kept.
  absl::StatusOr<double> Try(const std::vector<int32_t>& prefix) {
    const auto [ours, theirs] = std::mismatch(prefix.begin(), prefix.end(), first_.begin(), first_.end());
    if (ours == prefix.end()) return rewards_[0];  // the first rollout begins so, and goes on as it did
    const auto position = static_cast<int>(ours - prefix.begin());
    NABLA_ASSIGN_OR_RETURN(
        std::unique_ptr<Session> branch,
        session_.BranchAt(position, absl::MakeConstSpan(prefix).subspan(position), session_.seed() + rewards_.size()));
    session_.usage().model_calls += static_cast<int64_t>(prefix.size()) - position;  // drawn, though not decoded
    NABLA_RETURN_IF_ERROR(branches_.RollOut({branch.get()}));
    RevisionEvent event{.position = position, .new_token_id = *ours};
    event.new_text = session_.TokenText(event.new_token_id);
    if (theirs != first_.end()) {
      event.old_token_id = *theirs;
      event.old_text = session_.TokenText(event.old_token_id);
    }
    event.reward_before = best_reward_;
    NABLA_ASSIGN_OR_RETURN(event.reward_after, branches_.Score(*branch));
    const double reward = *event.reward_after;
    event.accepted = reward > best_reward_;
    ++(event.accepted ? session_.usage().revisions_accepted : session_.usage().revisions_rejected);
    revisions_.push_back(event);
    if (event.accepted) {
      best_reward_ = reward;
      best_ = std::move(branch);
      session_.Show(*best_);
    }
    session_.sink().OnEvent(std::move(event));
    return reward;
  }

  ReasonResult Finish() {
    if (best_ != nullptr) session_.Adopt(*best_);
    session_.CommitAll();
    ReasonResult result =
        FinishedResult(session_, session_.finished() ? session_.finish_reason() : FinishReason::kModelCallBudget);
    result.initial_reward = rewards_[0];
    result.reward = best_reward_;
    result.revisions = std::move(revisions_);
    return result;
  }

  const PolicyGradientOptions& options_;
  Session& session_;
  Branches branches_;
  std::vector<int32_t> first_;     // the first rollout
  std::unique_ptr<Session> best_;  // null: the first rollout
  double best_reward_ = 0;
  std::vector<double> rewards_;  // of every rollout
  std::vector<RevisionEvent> revisions_;
};

}  // namespace

absl::StatusOr<ReasonResult> RunPolicyGradient(const PolicyGradientOptions& options,
                                               std::optional<int64_t> max_model_calls, Session& session,
                                               ResponseScorer& scorer) {
  return PolicyGradientSearch(options, max_model_calls, session, scorer).Run();
}

}  // namespace nabla
