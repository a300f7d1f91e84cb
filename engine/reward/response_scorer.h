// A request's view of the reward model, in the language model's token ids: translates vocabularies, remembers the last
// rewards, keeps the books of its passes.
//
//   ResponseScorer scorer(&reward_model, &map, std::move(context), &usage.reward_model);
//   NABLA_ASSIGN_OR_RETURN(double reward, scorer.Score(session.response()));
//
// Belongs to one request and one thread; what it points to must outlive it. A reward that a gradient pass saw is not
// computed again (algorithm.md, equivalence 5).
#ifndef NABLA_ENGINE_REWARD_RESPONSE_SCORER_H_
#define NABLA_ENGINE_REWARD_RESPONSE_SCORER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/event.h"
#include "engine/reward/reward_model.h"
#include "engine/reward/vocabulary_map.h"

namespace nabla {

class ResponseScorer {
 public:
  ResponseScorer(const RewardModel* model, const VocabularyMap* map, std::unique_ptr<RewardContext> context,
                 ModelWork* work)
      : model_(model), map_(map), context_(std::move(context)), work_(work) {}

  // As RewardContext::ExpectGradients.
  absl::Status ExpectGradients() { return context_->ExpectGradients(); }

  absl::StatusOr<double> Score(absl::Span<const int32_t> response);

  // Of several responses, in their order, run as one batch. They are not remembered.
  absl::StatusOr<std::vector<double>> ScoreAll(absl::Span<const std::vector<int32_t>> responses);

  bool remote() const { return model_->remote(); }  // as RewardModel::remote

  // Whether a call has ended with UNAVAILABLE: the reward model is gone, for this request at least.
  bool lost() const { return lost_; }

  // As RewardContext::ScoreGradient, of a response in the language model's ids.
  absl::StatusOr<RewardGradient> ScoreGradient(absl::Span<const int32_t> response, int first);

  // ∂R/∂one-hot of rows [begin, end) of a gradient over the language model's vocabulary, [end − begin, V]: input and
  // target side.
  absl::StatusOr<std::vector<float>> OneHotGradient(const RewardGradient& gradient, int begin, int end);

 private:
  // Notes whether the reward model is gone.
  template <typename Value>
  absl::StatusOr<Value> Noting(absl::StatusOr<Value> result) {
    lost_ = lost_ || absl::IsUnavailable(result.status());
    return result;
  }
  void Remember(absl::Span<const int32_t> response, double reward);

  const RewardModel* model_;
  const VocabularyMap* map_;
  std::unique_ptr<RewardContext> context_;
  ModelWork* work_;
  bool lost_ = false;
  std::vector<int32_t> scored_;                                // by the context's last Score
  std::deque<std::pair<std::vector<int32_t>, double>> known_;  // latest first
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REWARD_RESPONSE_SCORER_H_
