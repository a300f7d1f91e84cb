// The paper's loop (algorithm.md, "The loop"): roll out, select, refine, resample, accept if the reward rises.
#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/refine/refiner.h"
#include "engine/strategy/strategy.h"

namespace nabla {
namespace {

// Model calls in the paper's unit; decoded tokens are counted where they are decoded.
constexpr int kCallsPerGradientStep = 4;
constexpr int kCallsPerAcceptanceTest = 2;

// Adds the time until it goes out of scope.
class ScopedTimer {
 public:
  explicit ScopedTimer(absl::Duration& total) : total_(total), start_(absl::Now()) {}
  ~ScopedTimer() { total_ += absl::Now() - start_; }

 private:
  absl::Duration& total_;
  const absl::Time start_;
};

// What a request that goes on without its reward model ends with: the rollout in hand.
ReasonResult WithoutReward(Session& session) {
  session.CommitAll();
  ReasonResult result = FinishedResult(session, session.finish_reason());
  result.reward_lost = true;
  return result;
}

// Behind the first sweep the likeliest tokens are no longer those that stand in the response.
RefinementOptions RefinementOf(const NablaOptions& options) {
  RefinementOptions refinement = options.refinement;
  if (options.max_sweeps > 1) refinement.anchor = RefinementOptions::Anchor::kRollout;
  return refinement;
}

class NablaLoop {
 public:
  NablaLoop(const NablaOptions& options, std::optional<int64_t> max_model_calls, Session& session,
            ResponseScorer& scorer, absl::Span<ResponseScorer* const> guards)
      : options_(options),
        max_model_calls_(max_model_calls),
        session_(session),
        scorer_(scorer),
        guards_(guards),
        refiner_(&session, &scorer, RefinementOf(options), options.selectors) {}

  absl::StatusOr<ReasonResult> Run() {
    NABLA_RETURN_IF_ERROR(session_.RollOut(options_.rollout, Session::Stream::kDraft));
    absl::StatusOr<ReasonResult> result = Revised();
    if (result.ok() || !scorer_.lost() || !options_.continue_without_reward) return result;
    NABLA_RETURN_IF_ERROR(session_.stop().Check());
    return WithoutReward(session_);
  }

 private:
  // From the first rollout to the end.
  absl::StatusOr<ReasonResult> Revised() {
    NABLA_ASSIGN_OR_RETURN(const double initial_reward, Score(session_.response()));
    for (int sweep = 1;; ++sweep) {
      last_sweep_ = sweep == options_.max_sweeps;
      const int accepted = session_.usage().revisions_accepted;
      NABLA_RETURN_IF_ERROR(Sweep());
      if (last_sweep_ || session_.ahead() > 0 || session_.usage().revisions_accepted == accepted) break;
      session_.Rewind();
    }
    const bool cut_short = session_.ahead() > 0 && OutOfBudget();
    session_.CommitAll();
    NABLA_ASSIGN_OR_RETURN(const double reward, Score(session_.response()));
    ReasonResult result =
        FinishedResult(session_, cut_short ? FinishReason::kModelCallBudget : session_.finish_reason());
    result.initial_reward = initial_reward;
    result.reward = reward;
    result.revisions = std::move(revisions_);
    return result;
  }

  // Once over the response, or as far as budget and target let it.
  absl::Status Sweep() {
    while (session_.ahead() > 0 && !OutOfBudget() && session_.usage().rollouts < options_.max_rollouts) {
      NABLA_ASSIGN_OR_RETURN(const bool reached, TargetReached());
      if (reached) break;
      NABLA_ASSIGN_OR_RETURN(const int unmarked, Select());
      GoOn(unmarked);
      if (session_.ahead() == 0) break;
      const int position = session_.committed();
      const auto tried = tried_.find(position);
      if (tried == tried_.end() || tried->second != session_.usage().revisions_accepted) {
        NABLA_ASSIGN_OR_RETURN(const int32_t token,
                               options_.screening_candidates > 0 ? BestCandidate() : RefineAndResample());
        if (token != session_.response()[position]) NABLA_RETURN_IF_ERROR(Revise(token));
        tried_[position] = session_.usage().revisions_accepted;
      }
      GoOn(1);
    }
    return absl::OkStatus();
  }

  void GoOn(int count) { last_sweep_ ? session_.Commit(count) : session_.Pass(count); }

  absl::StatusOr<bool> TargetReached() {
    if (!options_.target_reward) return false;
    NABLA_ASSIGN_OR_RETURN(const double reward, Score(session_.response()));
    return reward >= *options_.target_reward;
  }

  bool OutOfBudget() const { return max_model_calls_ && session_.usage().model_calls >= *max_model_calls_; }

  absl::StatusOr<double> Score(absl::Span<const int32_t> response) {
    NABLA_RETURN_IF_ERROR(session_.stop().Check());
    const ScopedTimer timer(session_.usage().reward_time);
    return scorer_.Score(response);
  }

  absl::StatusOr<int> Select() {
    const ScopedTimer timer(session_.usage().refine_time);
    return refiner_.CountUnmarked();
  }

  absl::StatusOr<int32_t> RefineAndResample() {
    const ScopedTimer timer(session_.usage().refine_time);
    NABLA_ASSIGN_OR_RETURN(const Refiner::Refined refined, refiner_.Refine());
    CountGradientSteps(refined.gradient_steps, refined.gradient_norm);
    return session_.Sample(refined.logits, options_.resample);
  }

  void CountGradientSteps(int steps, double gradient_norm) {
    gradient_norm_ = gradient_norm;
    Usage& usage = session_.usage();
    usage.gradient_steps += steps;
    usage.model_calls += kCallsPerGradientStep * steps;
    session_.sink().OnEvent(ProgressEvent{.position = session_.committed(),
                                          .gradient_steps = steps,
                                          .model_calls = usage.model_calls,
                                          .gradient_norm = gradient_norm});
  }

  // The current token, or one behind which the reward model thinks better of the text so far. What the tail has made of
  // the old token says nothing about the new one: with it, hardly any candidate looked good.
  absl::StatusOr<int32_t> BestCandidate() {
    Refiner::Screened screened;
    {
      const ScopedTimer timer(session_.usage().refine_time);
      NABLA_ASSIGN_OR_RETURN(screened, refiner_.Screen(options_.screening_candidates));
    }
    CountGradientSteps(screened.gradient_steps, screened.gradient_norm);
    const int position = session_.committed();
    const int32_t current = session_.response()[position];
    if (screened.candidates.empty()) return current;
    screened.candidates.insert(screened.candidates.begin(), current);
    std::vector<std::vector<int32_t>> texts;
    for (const int32_t candidate : screened.candidates) {
      texts.emplace_back(session_.response().begin(), session_.response().begin() + position);
      texts.back().push_back(candidate);
    }
    NABLA_RETURN_IF_ERROR(session_.stop().Check());
    const ScopedTimer timer(session_.usage().reward_time);
    NABLA_ASSIGN_OR_RETURN(const std::vector<double> rewards, scorer_.ScoreAll(texts));
    session_.usage().model_calls += kCallsPerScore * static_cast<int64_t>(screened.candidates.size() - 1);
    return screened.candidates[std::max_element(rewards.begin(), rewards.end()) - rewards.begin()];
  }

  // Rolls out behind another token at the first ahead position and keeps the better of the two responses.
  absl::Status Revise(int32_t token) {
    Usage& usage = session_.usage();
    RevisionEvent event{.position = session_.committed(), .new_token_id = token, .gradient_norm = gradient_norm_};
    event.old_token_id = session_.response()[event.position];
    event.old_text = session_.TokenText(event.old_token_id);
    event.new_text = session_.TokenText(event.new_token_id);
    NABLA_RETURN_IF_ERROR(session_.Propose(token, options_.rollout));
    event.accepted = true;
    if (options_.rejection_sampling) {
      if (absl::Status status = Test(event); !status.ok()) {
        session_.Reject();
        return status;
      }
    }
    ++(event.accepted ? usage.revisions_accepted : usage.revisions_rejected);
    const bool accepted = event.accepted;
    revisions_.push_back(event);
    session_.sink().OnEvent(std::move(event));
    accepted ? session_.Accept() : session_.Reject();
    return absl::OkStatus();
  }

  // Fills in the rewards of both responses and which is the better.
  absl::Status Test(RevisionEvent& event) {
    NABLA_ASSIGN_OR_RETURN(event.reward_before, Score(session_.before_proposal()));
    NABLA_ASSIGN_OR_RETURN(event.reward_after, Score(session_.response()));
    session_.usage().model_calls += kCallsPerAcceptanceTest;
    double gain = *event.reward_after - *event.reward_before;
    if (options_.acceptance_likelihood_weight > 0) {
      NABLA_ASSIGN_OR_RETURN(const double after, session_.LogLikelihood());
      NABLA_ASSIGN_OR_RETURN(const double before, session_.LogLikelihoodBeforeProposal());
      gain += options_.acceptance_likelihood_weight * (after - before);
    }
    event.accepted = gain > options_.min_reward_gain;
    return event.accepted ? AskGuards(event) : absl::OkStatus();
  }

  // The revision is accepted if every guard model's reward rises.
  absl::Status AskGuards(RevisionEvent& event) {
    const ScopedTimer timer(session_.usage().reward_time);
    for (ResponseScorer* guard : guards_) {
      NABLA_RETURN_IF_ERROR(session_.stop().Check());
      NABLA_ASSIGN_OR_RETURN(const double before, guard->Score(session_.before_proposal()));
      NABLA_ASSIGN_OR_RETURN(const double after, guard->Score(session_.response()));
      session_.usage().model_calls += kCallsPerAcceptanceTest;
      event.guard_gains.push_back(after - before);
      if (after <= before) event.accepted = false;
    }
    return absl::OkStatus();
  }

  const NablaOptions& options_;
  const std::optional<int64_t> max_model_calls_;
  Session& session_;
  ResponseScorer& scorer_;
  const absl::Span<ResponseScorer* const> guards_;
  Refiner refiner_;
  bool last_sweep_ = true;
  std::map<int, int> tried_;  // positions, and how many revisions had been accepted when they were refined last
  double gradient_norm_ = 0;  // at the position refined last
  std::vector<RevisionEvent> revisions_;
};

}  // namespace

absl::StatusOr<ReasonResult> RunNabla(const NablaOptions& options, std::optional<int64_t> max_model_calls,
                                      Session& session, ResponseScorer* scorer,
                                      absl::Span<ResponseScorer* const> guards) {
  if (scorer != nullptr) return NablaLoop(options, max_model_calls, session, *scorer, guards).Run();
  NABLA_RETURN_IF_ERROR(session.RollOut(options.rollout, Session::Stream::kDraft));
  return WithoutReward(session);
}

}  // namespace nabla
