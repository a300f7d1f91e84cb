// A reward model in another process: token ids go over, rewards and gradients come back; their products with the
// embedding matrix, fetched at connection, are computed here. Gives the bits that the model would give in this process.
//
//   NABLA_ASSIGN_OR_RETURN(auto model, RemoteRewardModel::Connect({.client = {.channel = {.address = "reward:50052"}}},
//                                                                 make_projection));
//
// Thread-safe as every RewardModel; contexts and gradients outlive it no longer than their request. Calls block for a
// round trip, until the `stop` given to Open says stop, or until the service's time is up. Errors of the service
// (INVALID_ARGUMENT, OUT_OF_RANGE …) come through as they are; UNAVAILABLE where it cannot be reached, stays full or
// has another model than the one connected to: replaced() then says so.
#ifndef NABLA_SERVER_REMOTE_REWARD_MODEL_H_
#define NABLA_SERVER_REMOTE_REWARD_MODEL_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/model_info.h"
#include "engine/reward/embedding_table.h"
#include "engine/reward/reward_model.h"
#include "server/reward_client.h"

namespace nabla {

struct RemoteRewardModelOptions {
  RewardClientOptions client;
  bool bfloat16_gradients = false;  // half the bytes; no longer the bits of the model in this process
};

class RemoteRewardModel final : public RewardModel {
 public:
  // [rows, H] → [rows, V], as RewardModel::ProjectToVocabulary; thread-safe.
  using Projection = std::function<absl::StatusOr<std::vector<float>>(absl::Span<const float> gradient, int rows)>;
  using ProjectionFactory = std::function<absl::StatusOr<Projection>(EmbeddingTable table)>;

  // Blocks until the service has told what it has and sent its embedding matrix, or until `stop` says stop.
  // FAILED_PRECONDITION where its replicas have different models, or what it says does not agree with itself.
  static absl::StatusOr<std::unique_ptr<RemoteRewardModel>> Connect(RemoteRewardModelOptions options,
                                                                    const ProjectionFactory& make_projection,
                                                                    const StopToken* stop = nullptr);

  absl::StatusOr<std::unique_ptr<RewardContext>> Open(absl::Span<const ChatMessage> messages, int max_response_tokens,
                                                      const StopToken* stop = nullptr,
                                                      absl::string_view traceparent = "") const override;
  absl::StatusOr<std::vector<float>> ProjectToVocabulary(absl::Span<const float> input_gradient,
                                                         int rows) const override {
    return projection_(input_gradient, rows);
  }
  std::vector<std::string> TokenStrings() const override { return token_strings_; }
  int vocabulary_size() const override { return vocabulary_size_; }
  int32_t pad_token_id() const override { return pad_token_id_; }
  RewardKind kind() const override { return kind_; }
  bool remote() const override { return true; }
  bool replaced() const override { return *replaced_; }
  const std::string& name() const override { return info_.name; }
  ModelInfo info() const override { return info_; }  // of the replica connected to

 private:
  class Context;

  RemoteRewardModel() = default;
  absl::Status ReadInfo(const v1::GetRewardInfoResponse& response);
  absl::StatusOr<EmbeddingTable> FetchEmbedding(const StopToken* stop) const;
  absl::Status Mismatch(const std::string& what) const;

  std::shared_ptr<RewardClient> client_;
  const std::shared_ptr<std::atomic<bool>> replaced_ = std::make_shared<std::atomic<bool>>(false);
  bool bfloat16_gradients_ = false;
  v1::Fingerprints fingerprints_;
  ModelInfo info_;
  RewardKind kind_ = RewardKind::kClassifier;
  int vocabulary_size_ = 0;
  int hidden_size_ = 0;
  int32_t pad_token_id_ = 0;
  std::vector<std::string> token_strings_;
  Projection projection_;
};

}  // namespace nabla

#endif  // NABLA_SERVER_REMOTE_REWARD_MODEL_H_
