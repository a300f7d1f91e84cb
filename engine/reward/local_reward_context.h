// What a LocalRewardModel keeps of one request: the conversation run through the model, and keys, values and hidden
// states of the response scored last, so that the next one pays only for what differs; where gradients are expected,
// also what its derivative wants, as far as the runner's budget goes. Includes torch.
//
//   LocalRewardContext context(runner, kind, score_weight, {.before = ids, .after = {}}, /*max_response_tokens=*/64,
//                              stop);
//   NABLA_RETURN_IF_ERROR(context.Prefill());
//   NABLA_ASSIGN_OR_RETURN(std::vector<double> rewards, context.ScoreAll({first, second}));
//
// Belongs to one request and one thread, as every RewardContext; to be made on the execution thread.
#ifndef NABLA_ENGINE_REWARD_LOCAL_REWARD_CONTEXT_H_
#define NABLA_ENGINE_REWARD_LOCAL_REWARD_CONTEXT_H_

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/stop_token.h"
#include "engine/decode/model_runner.h"
#include "engine/model/kv_cache.h"
#include "engine/model/recorded_rows.h"
#include "engine/model/transformer.h"
#include "engine/reward/reward_model.h"

namespace nabla {

// The template's text before and behind the response.
struct Surroundings {
  std::vector<int32_t> before, after;
};

class LocalRewardContext : public RewardContext {
 public:
  // `score_weight`: float32 [H], of a classifier or verdict, both of which are a product with the last hidden state.
  LocalRewardContext(std::shared_ptr<ModelRunner> runner, RewardKind kind, torch::Tensor score_weight,
                     Surroundings surroundings, int max_response_tokens, const StopToken* stop);

  // Key/value positions that a context comes to hold at most.
  static int64_t MostTokens(const Surroundings& surroundings, int max_response_tokens);

  // Runs what stands before the response; once, ahead of everything else.
  absl::Status Prefill();

  void set_stop(const StopToken* stop) override { stop_ = stop; }
  absl::Status ExpectGradients() override;
  absl::StatusOr<double> Score(absl::Span<const int32_t> response) override;
  absl::StatusOr<std::vector<double>> ScoreAll(absl::Span<const absl::Span<const int32_t>> responses) override;
  absl::StatusOr<RewardGradient> ScoreGradient(absl::Span<const int32_t> response, int first, bool scored) override;
  const ModelWork& work() const override { return work_; }

 private:
  struct Tail;

  int64_t before() const { return static_cast<int64_t>(before_.size()); }
  absl::Status RunAlone(const std::function<absl::Status()>& work);
  int CommonPrefix(absl::Span<const int32_t> response) const;
  absl::Status Record(int64_t rows, std::shared_ptr<MemoryBudget> budget);
  absl::Status Keep(absl::Span<const int32_t> response, absl::Span<const int32_t> after);
  Tail TailOf(absl::Span<const int32_t> response) const;
  absl::Status ScoreTogether(absl::Span<Tail> tails);
  void AddLogProbs(absl::Span<const int32_t> tokens, int64_t first);
  void Forget(int count);
  double ScoreOf(const torch::Tensor& hidden) const;
  Transformer::Pass PassThrough(absl::Span<const int32_t> ids, int first, bool scored);
  RewardGradient ScoreHeadGradient(absl::Span<const int32_t> response, int first, bool scored);
  RewardGradient LikelihoodGradient(absl::Span<const int32_t> response, int first, bool scored);

  const std::shared_ptr<ModelRunner> runner_;
  const std::shared_ptr<const Model> model_;
  const RewardKind kind_;
  const torch::Tensor score_weight_;
  const std::vector<int32_t> before_, after_;  // the latter empty for a likelihood, which does not look at it
  const int max_response_tokens_;
  const StopToken* stop_;
  KvCache cache_;  // before_, kept_ and kept_after_ tokens of after_
  std::vector<int32_t> kept_;
  std::optional<size_t> kept_after_;      // all or none; unset: none, and score_ is not to be trusted
  std::unique_ptr<RecordedRows> record_;  // of the same behind before_; null: nothing is recorded
  double score_ = 0;                      // of kept_ and all of after_, if they are there
  torch::Tensor hidden_;                  // row i predicted response token i
  std::vector<double> log_probs_;         // of kept_; likelihood only
  ModelWork work_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REWARD_LOCAL_REWARD_CONTEXT_H_
