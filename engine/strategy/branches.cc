#include "engine/strategy/branches.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/strategy/strategy.h"

namespace nabla {
namespace {
constexpr uint64_t kSeedStep = 0x9e3779b97f4a7c15;  // SplitMix64's
}

absl::StatusOr<std::unique_ptr<Session>> Branches::Grow(Session& from) { return GrowBehind(from.response(), from); }

absl::StatusOr<std::unique_ptr<Session>> Branches::GrowBehind(absl::Span<const int32_t> text, Session& from) {
  const absl::Span<const int32_t> has = from.response();
  size_t common = std::mismatch(text.begin(), text.end(), has.begin(), has.end()).first - text.begin();
  if (common == text.size() && common < has.size()) --common;  // somebody must run the last token
  return from.BranchAt(static_cast<int>(common), text.subspan(common), session_.seed() + ++grown_ * kSeedStep);
}

absl::StatusOr<double> Branches::Score(const Session& session) {
  NABLA_RETURN_IF_ERROR(session_.stop().Check());
  const absl::Time start = absl::Now();
  NABLA_ASSIGN_OR_RETURN(const double reward, scorer_->Score(session.response()));
  Usage& usage = session_.usage();
  usage.model_calls += kCallsPerScore;
  usage.reward_time += absl::Now() - start;
  return reward;
}

absl::Status Branches::ScoreAll(absl::Span<Candidate> candidates) {
  NABLA_RETURN_IF_ERROR(session_.stop().Check());
  const absl::Time start = absl::Now();
  std::vector<std::vector<int32_t>> responses;
  for (const Candidate& candidate : candidates) {
    const absl::Span<const int32_t> response = candidate.session->response();
    if (!candidate.reward) responses.emplace_back(response.begin(), response.end());
  }
  if (responses.empty()) return absl::OkStatus();
  NABLA_ASSIGN_OR_RETURN(const std::vector<double> rewards, scorer_->ScoreAll(responses));
  auto reward = rewards.begin();
  for (Candidate& candidate : candidates) {
    if (!candidate.reward) candidate.reward = *reward++;
  }
  Usage& usage = session_.usage();
  usage.model_calls += kCallsPerScore * static_cast<int64_t>(responses.size());
  usage.reward_time += absl::Now() - start;
  return absl::OkStatus();
}

ReasonResult Branches::Finish(absl::Span<const Candidate> candidates, size_t chosen) {
  for (size_t i = 0; i < candidates.size(); ++i) {
    const absl::Span<const int32_t> response = candidates[i].session->response();
    CandidateEvent event{.index = candidates[i].index, .reward = candidates[i].reward, .chosen = i == chosen};
    event.token_ids.assign(response.begin(), response.end());
    event.text = candidates[i].session->ResponseText();
    session_.sink().OnEvent(std::move(event));
  }
  session_.Show(*candidates[chosen].session);
  if (candidates[chosen].session != &session_) session_.Adopt(*candidates[chosen].session);
  session_.CommitAll();
  ReasonResult result =
      FinishedResult(session_, session_.finished() ? session_.finish_reason() : FinishReason::kModelCallBudget);
  result.reward = candidates[chosen].reward;
  return result;
}

std::vector<Candidate> Complete(absl::Span<const Candidate> candidates) {
  std::vector<Candidate> complete;
  std::copy_if(candidates.begin(), candidates.end(), std::back_inserter(complete),
               [](const Candidate& candidate) { return candidate.session->finished(); });
  return complete.empty() ? std::vector<Candidate>(candidates.begin(), candidates.end()) : complete;
}

size_t BestOf(absl::Span<const Candidate> candidates) {
  const auto less = [](const Candidate& a, const Candidate& b) { return *a.reward < *b.reward; };
  return std::max_element(candidates.begin(), candidates.end(), less) - candidates.begin();
}

}  // namespace nabla
