// The reward model in this process, on libtorch: classifier, likelihood or verdict.
//
//   NABLA_ASSIGN_OR_RETURN(auto model, Model::Load("models/judge", "auto", "auto", 0));
//   NABLA_ASSIGN_OR_RETURN(auto reward, LocalRewardModel::Create(model, RewardKind::kLikelihood, {}));
#ifndef NABLA_ENGINE_REWARD_LOCAL_REWARD_MODEL_H_
#define NABLA_ENGINE_REWARD_LOCAL_REWARD_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/reward/reward_model.h"

namespace nabla {

class Model;

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
  static absl::StatusOr<std::unique_ptr<LocalRewardModel>> Create(std::shared_ptr<const Model> model, RewardKind kind,
                                                                  VerdictOptions verdict);

  absl::StatusOr<std::unique_ptr<RewardContext>> Open(absl::Span<const ChatMessage> messages,
                                                      int max_response_tokens) const override;
  absl::StatusOr<std::vector<float>> ProjectToVocabulary(absl::Span<const float> input_gradient,
                                                         int rows) const override;
  const Tokenizer& tokenizer() const override;
  int vocabulary_size() const override;
  int32_t pad_token_id() const override;
  RewardKind kind() const override { return kind_; }
  const std::string& name() const override;

 private:
  LocalRewardModel(std::shared_ptr<const Model> model, RewardKind kind, VerdictOptions verdict)
      : model_(std::move(model)), kind_(kind), verdict_(std::move(verdict)) {}

  std::shared_ptr<const Model> model_;
  RewardKind kind_;
  VerdictOptions verdict_;
  int32_t yes_ = 0, no_ = 0;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REWARD_LOCAL_REWARD_MODEL_H_
