#include "server/remote_reward_model.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/fingerprint.h"
#include "engine/base/status_macros.h"
#include "engine/reward/reward_kind.h"
#include "server/reward_conversion.h"
#include "server/trace_context.h"

namespace nabla {
namespace {

using Numbers = v1::ScoreGradientRequest;

// Log-probability rows of one call stay below this, or are a single row.
constexpr size_t kRowBytesPerCall = 2 << 20;

constexpr size_t kResponsesPerCall = 256;  // as reward.proto allows

}  // namespace

// What the service has to be told anew with every call. Gradients refer to it after their context has gone.
class RemoteRewardModel::Context final : public RewardContext {
 public:
  Context(const RemoteRewardModel* model, v1::Conversation conversation, const StopToken* stop,
          std::optional<TraceContext> trace)
      : shared_(std::make_shared<Shared>(Shared{.client = model->client_,
                                                .replaced = model->replaced_,
                                                .fingerprints = model->fingerprints_,
                                                .conversation = std::move(conversation),
                                                .stop = stop,
                                                .trace = std::move(trace),
                                                .vocabulary_size = static_cast<size_t>(model->vocabulary_size()),
                                                .work = {}})),
        hidden_size_(model->hidden_size_),
        type_(model->bfloat16_gradients_ ? Numbers::BFLOAT16 : Numbers::FLOAT32),
        has_log_probs_(model->kind() == RewardKind::kLikelihood) {}

  // Lets the service open a context of its own and say what is wrong with the conversation.
  absl::Status Check() { return CallScore({}).status(); }

  absl::StatusOr<double> Score(absl::Span<const int32_t> response) override {
    NABLA_ASSIGN_OR_RETURN(const std::vector<double> rewards, CallScore({response}));
    return rewards.front();
  }

  absl::StatusOr<std::vector<double>> ScoreAll(absl::Span<const absl::Span<const int32_t>> responses) override {
    std::vector<double> rewards;
    while (rewards.size() < responses.size()) {
      NABLA_ASSIGN_OR_RETURN(const std::vector<double> some,
                             CallScore(responses.subspan(rewards.size(), kResponsesPerCall)));
      rewards.insert(rewards.end(), some.begin(), some.end());
    }
    return rewards;
  }

  absl::StatusOr<RewardGradient> ScoreGradient(absl::Span<const int32_t> response, int first, bool scored) override {
    v1::ScoreGradientRequest request = shared_->NewRequest(response, first);
    request.set_scored(scored);
    request.set_gradient_type(type_);
    if (has_log_probs_) request.set_log_probs_end(1);  // all that is looked at with update_postfix off
    v1::ScoreGradientResponse answer;
    NABLA_RETURN_IF_ERROR(shared_->CallScoreGradient(request, &answer));
    RewardGradient gradient;
    gradient.reward = answer.reward();
    gradient.rows = static_cast<int>(response.size()) - first;
    gradient.hidden_size = hidden_size_;
    NABLA_ASSIGN_OR_RETURN(gradient.input_gradient, UnpackFloats(answer.input_gradient(), type_,
                                                                 static_cast<size_t>(gradient.rows) * hidden_size_));
    if (!has_log_probs_) return gradient;
    NABLA_ASSIGN_OR_RETURN(std::vector<float> row,
                           UnpackFloats(answer.log_probs(), Numbers::FLOAT32, shared_->vocabulary_size));
    request.set_omit_gradient(true);
    gradient.log_probs = [shared = shared_, request = std::move(request), first_row = std::move(row)](
                             int begin, int end) -> absl::StatusOr<std::vector<float>> {
      if (begin == 0 && end == 1) return first_row;
      return shared->FetchRows(request, begin, end);
    };
    return gradient;
  }

  const ModelWork& work() const override { return shared_->work; }

 private:
  struct Shared {
    std::shared_ptr<RewardClient> client;
    std::shared_ptr<std::atomic<bool>> replaced;
    v1::Fingerprints fingerprints;
    v1::Conversation conversation;
    const StopToken* stop;
    std::optional<TraceContext> trace;
    size_t vocabulary_size;
    ModelWork work;

    v1::ScoreGradientRequest NewRequest(absl::Span<const int32_t> response, int first) const {
      v1::ScoreGradientRequest request;
      *request.mutable_fingerprints() = fingerprints;
      *request.mutable_conversation() = conversation;
      SetTokenIds(response, request.mutable_response());
      request.set_first(static_cast<uint32_t>(first));
      return request;
    }

    // Of a call that the service has answered with other fingerprints: the request may fare better anew.
    absl::Status Noting(const absl::Status& status) const {
      if (!absl::IsFailedPrecondition(status)) return status;
      *replaced = true;
      return absl::UnavailableError(status.message());
    }

    absl::Status CallScoreGradient(const v1::ScoreGradientRequest& request, v1::ScoreGradientResponse* answer) {
      NABLA_RETURN_IF_ERROR(Noting(client->ScoreGradient(request, answer, stop, trace)));
      AddWork(answer->work(), &work);
      return absl::OkStatus();
    }

    absl::StatusOr<std::vector<float>> FetchRows(v1::ScoreGradientRequest request, int begin, int end) {
      const size_t rows_per_call = std::max<size_t>(1, kRowBytesPerCall / (vocabulary_size * sizeof(float)));
      std::vector<float> rows;
      rows.reserve(static_cast<size_t>(end - begin) * vocabulary_size);
      while (begin < end) {
        const int next = static_cast<int>(std::min<size_t>(end, begin + rows_per_call));
        request.set_log_probs_begin(static_cast<uint32_t>(begin));
        request.set_log_probs_end(static_cast<uint32_t>(next));
        v1::ScoreGradientResponse answer;
        NABLA_RETURN_IF_ERROR(CallScoreGradient(request, &answer));
        NABLA_ASSIGN_OR_RETURN(
            const std::vector<float> some,
            UnpackFloats(answer.log_probs(), Numbers::FLOAT32, static_cast<size_t>(next - begin) * vocabulary_size));
        rows.insert(rows.end(), some.begin(), some.end());
        begin = next;
      }
      return rows;
    }
  };

  absl::StatusOr<std::vector<double>> CallScore(absl::Span<const absl::Span<const int32_t>> responses) {
    v1::ScoreRequest request;
    *request.mutable_fingerprints() = shared_->fingerprints;
    *request.mutable_conversation() = shared_->conversation;
    for (const absl::Span<const int32_t> response : responses) SetTokenIds(response, request.add_responses());
    v1::ScoreResponse answer;
    NABLA_RETURN_IF_ERROR(shared_->Noting(shared_->client->Score(request, &answer, shared_->stop, shared_->trace)));
    AddWork(answer.work(), &shared_->work);
    if (answer.rewards_size() != request.responses_size()) {
      return absl::InternalError(absl::StrCat("the reward service sent ", answer.rewards_size(), " rewards where ",
                                              request.responses_size(), " were expected"));
    }
    return std::vector<double>(answer.rewards().begin(), answer.rewards().end());
  }

  const std::shared_ptr<Shared> shared_;
  const int hidden_size_;
  const Numbers::NumberType type_;
  const bool has_log_probs_;
};

absl::StatusOr<std::unique_ptr<RemoteRewardModel>> RemoteRewardModel::Connect(RemoteRewardModelOptions options,
                                                                              const ProjectionFactory& make_projection,
                                                                              const StopToken* stop) {
  std::unique_ptr<RemoteRewardModel> model(new RemoteRewardModel());
  NABLA_ASSIGN_OR_RETURN(model->client_, RewardClient::Create(std::move(options.client)));
  model->bfloat16_gradients_ = options.bfloat16_gradients;
  v1::GetRewardInfoRequest request;
  request.set_include_vocabulary(true);
  v1::GetRewardInfoResponse response;
  NABLA_RETURN_IF_ERROR(model->client_->GetInfo(request, &response, stop));
  NABLA_RETURN_IF_ERROR(model->ReadInfo(response));
  NABLA_ASSIGN_OR_RETURN(EmbeddingTable table, model->FetchEmbedding(stop));
  NABLA_ASSIGN_OR_RETURN(model->projection_, make_projection(std::move(table)));
  return model;
}

absl::Status RemoteRewardModel::ReadInfo(const v1::GetRewardInfoResponse& response) {
  const v1::ModelInfo& model = response.model();
  fingerprints_ = response.fingerprints();
  info_ = {.name = model.name(),
           .architecture = model.architecture(),
           .dtype = model.dtype(),
           .device = model.device(),
           .reward_kind = model.reward_kind(),
           .parameters = static_cast<int64_t>(model.parameters()),
           .vocabulary_size = static_cast<int>(model.vocabulary_size()),
           .max_length = static_cast<int>(model.max_length())};
  NABLA_ASSIGN_OR_RETURN(kind_, ParseRewardKind(model.reward_kind()));
  vocabulary_size_ = static_cast<int>(response.vocabulary_size());
  hidden_size_ = static_cast<int>(response.hidden_size());
  pad_token_id_ = static_cast<int32_t>(response.pad_token_id());
  token_strings_.assign(response.token_strings().begin(), response.token_strings().end());
  if (token_strings_.size() != response.vocabulary_size()) {
    return Mismatch(absl::StrCat("names ", token_strings_.size(), " of its ", response.vocabulary_size(), " tokens"));
  }
  if (TokenizerFingerprint(token_strings_, pad_token_id_) != fingerprints_.tokenizer()) {
    return Mismatch("its token strings do not have the fingerprint that it tells");
  }
  return absl::OkStatus();
}

absl::StatusOr<EmbeddingTable> RemoteRewardModel::FetchEmbedding(const StopToken* stop) const {
  v1::FetchEmbeddingRequest request;
  *request.mutable_fingerprints() = fingerprints_;
  std::string dtype;
  const auto bytes = std::make_shared<std::string>();
  size_t expected = 0;
  const auto take = [&](const v1::EmbeddingChunk& chunk) -> absl::Status {
    if (bytes->empty()) {
      dtype = chunk.dtype();
      expected = static_cast<size_t>(vocabulary_size_) * hidden_size_ * (dtype == "bfloat16" ? 2 : 4);
      bytes->reserve(expected);
    }
    bytes->append(chunk.data());
    return bytes->size() <= expected ? absl::OkStatus() : Mismatch("its embedding is larger than it tells");
  };
  NABLA_RETURN_IF_ERROR(client_->FetchEmbedding(request, take, stop));
  if (bytes->size() != expected || bytes->empty()) {
    return Mismatch(absl::StrCat("its embedding ended after ", bytes->size(), " bytes"));
  }
  return EmbeddingTable{.dtype = dtype,
                        .vocabulary_size = vocabulary_size_,
                        .hidden_size = hidden_size_,
                        .bytes = *bytes,
                        .owner = bytes};
}

absl::Status RemoteRewardModel::Mismatch(const std::string& what) const {
  return absl::FailedPreconditionError(
      absl::StrCat("reward service at ", client_->address(), ": ", what, "; run the same version at both ends"));
}

absl::StatusOr<std::unique_ptr<RewardContext>> RemoteRewardModel::Open(absl::Span<const ChatMessage> messages,
                                                                       int max_response_tokens, const StopToken* stop,
                                                                       absl::string_view traceparent) const {
  auto context =
      std::make_unique<Context>(this, ToProto(messages, max_response_tokens), stop, ParseTraceparent(traceparent));
  NABLA_RETURN_IF_ERROR(context->Check());
  return context;
}

}  // namespace nabla
