// The reward model in this process, on libtorch: classifier, likelihood or verdict.
//
//   NABLA_ASSIGN_OR_RETURN(auto reward, LocalRewardModel::Load({.path = "models/judge"}, "cpu", 1 << 30, /*threads=*/2,
//   &batcher));
//
// Computes on the batcher's thread, where the passes of several contexts merge into one.
#ifndef NABLA_ENGINE_REWARD_LOCAL_REWARD_MODEL_H_
#define NABLA_ENGINE_REWARD_LOCAL_REWARD_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/weight_copies.h"
#include "engine/reward/embedding_table.h"
#include "engine/reward/reward_model.h"
#include "engine/reward/reward_model_options.h"

namespace nabla {

class Batcher;
class Model;
class ModelRunner;

// What a verdict asks, behind the answer, and the two words it weighs.
struct VerdictOptions {
  std::string question = "Is the answer above correct? Reply with Yes or No.";
  std::string yes = "Yes";
  std::string no = "No";
};

class LocalRewardModel : public RewardModel {
 public:
  // INVALID_ARGUMENT where model and kind do not go together, the model has no chat template, or a verdict's word has
  // no token.
  static absl::StatusOr<std::unique_ptr<LocalRewardModel>> Create(std::shared_ptr<ModelRunner> runner, RewardKind kind,
                                                                  VerdictOptions verdict);
  static absl::StatusOr<std::unique_ptr<LocalRewardModel>> Create(std::shared_ptr<ModelRunner> runner,
                                                                  const RewardModelOptions& options);
  // The same from a folder, with key/value memory and, on a CPU, threads of its own (`threads` as ThreadCount's).
  // `device` as in ModelOptions. Errors name the file or the option and what was expected.
  static absl::StatusOr<std::unique_ptr<LocalRewardModel>> Load(const RewardModelOptions& options,
                                                                const std::string& device, int64_t kv_cache_bytes,
                                                                int threads, Batcher* batcher,
                                                                WeightCopies copies = {});

  absl::StatusOr<std::unique_ptr<RewardContext>> Open(absl::Span<const ChatMessage> messages, int max_response_tokens,
                                                      const StopToken* stop = nullptr,
                                                      absl::string_view traceparent = "") const override;
  absl::StatusOr<std::vector<float>> ProjectToVocabulary(absl::Span<const float> input_gradient,
                                                         int rows) const override;
  std::vector<std::string> TokenStrings() const override;
  int vocabulary_size() const override;
  int32_t pad_token_id() const override;
  RewardKind kind() const override { return kind_; }
  const std::string& name() const override;
  ModelInfo info() const override;

  // Positions of key/value memory that a context may come to hold. Errors as Open's.
  absl::StatusOr<int64_t> ContextTokens(absl::Span<const ChatMessage> messages, int max_response_tokens) const;

  // What a server hands to its clients, so that they compute ProjectToVocabulary themselves.
  absl::StatusOr<EmbeddingTable> Embedding() const;

 private:
  LocalRewardModel(std::shared_ptr<ModelRunner> runner, RewardKind kind, VerdictOptions verdict);

  std::shared_ptr<ModelRunner> runner_;
  std::shared_ptr<const Model> model_;
  RewardKind kind_;
  VerdictOptions verdict_;
  int32_t yes_ = 0, no_ = 0;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REWARD_LOCAL_REWARD_MODEL_H_
