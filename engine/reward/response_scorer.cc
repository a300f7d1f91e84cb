#include "engine/reward/response_scorer.h"

#include <algorithm>

#include "engine/base/status_macros.h"

namespace nabla {
namespace {
constexpr size_t kRememberedRewards =
    4;  // current, proposed, and the last two argmax texts that a gradient was taken at
}

absl::StatusOr<double> ResponseScorer::Score(absl::Span<const int32_t> response) {
  for (const auto& [tokens, reward] : known_) {
    if (absl::MakeConstSpan(tokens) == response) return reward;
  }
  NABLA_ASSIGN_OR_RETURN(const double reward, Noting(context_->Score(map_->Ids(response))));
  *work_ = context_->work();
  scored_.assign(response.begin(), response.end());
  Remember(response, reward);
  return reward;
}

absl::StatusOr<std::vector<double>> ResponseScorer::ScoreAll(absl::Span<const std::vector<int32_t>> responses) {
  std::vector<std::vector<int32_t>> ids;
  for (const std::vector<int32_t>& response : responses) ids.push_back(map_->Ids(response));
  NABLA_ASSIGN_OR_RETURN(std::vector<double> rewards,
                         Noting(context_->ScoreAll(std::vector<absl::Span<const int32_t>>(ids.begin(), ids.end()))));
  *work_ = context_->work();
  return rewards;
}

absl::StatusOr<RewardGradient> ResponseScorer::ScoreGradient(absl::Span<const int32_t> response, int first) {
  const bool scored = absl::MakeConstSpan(scored_) == response;
  NABLA_ASSIGN_OR_RETURN(RewardGradient gradient, Noting(context_->ScoreGradient(map_->Ids(response), first, scored)));
  *work_ = context_->work();
  Remember(response, gradient.reward);
  return gradient;
}

absl::StatusOr<std::vector<float>> ResponseScorer::OneHotGradient(const RewardGradient& gradient, int begin, int end) {
  const absl::Span<const float> inputs = absl::MakeConstSpan(gradient.input_gradient)
                                             .subspan(static_cast<size_t>(begin) * gradient.hidden_size,
                                                      static_cast<size_t>(end - begin) * gradient.hidden_size);
  NABLA_ASSIGN_OR_RETURN(std::vector<float> rows, model_->ProjectToVocabulary(inputs, end - begin));
  if (gradient.log_probs) {
    NABLA_ASSIGN_OR_RETURN(const std::vector<float> targets, Noting(gradient.log_probs(begin, end)));
    std::transform(rows.begin(), rows.end(), targets.begin(), rows.begin(), std::plus<float>());
  }
  return map_->Rows(std::move(rows), end - begin);
}

void ResponseScorer::Remember(absl::Span<const int32_t> response, double reward) {
  known_.emplace_front(std::vector<int32_t>(response.begin(), response.end()), reward);
  if (known_.size() > kRememberedRewards) known_.pop_back();
}

}  // namespace nabla
