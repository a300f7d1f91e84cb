#include "engine/reward/local_reward_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/decode/model_runner.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/device.h"
#include "engine/model/model.h"
#include "engine/reward/local_reward_context.h"
#include "engine/reward/reward_kind.h"
#include "engine/text/chat_template.h"

namespace nabla {
namespace {

constexpr char kResponseMark[] = "<<<response>>>";  // where the template puts the answer

absl::StatusOr<Surroundings> SplitTemplate(const Model& model, absl::Span<const ChatMessage> messages, RewardKind kind,
                                           const VerdictOptions& verdict) {
  std::vector<ChatMessage> turns(messages.begin(), messages.end());
  turns.push_back({"assistant", kResponseMark});
  if (kind == RewardKind::kVerdict) turns.push_back({"user", verdict.question});
  NABLA_ASSIGN_OR_RETURN(const std::string text,
                         model.chat_template()->Render(turns, /*add_generation_prompt=*/kind == RewardKind::kVerdict));
  const size_t mark = text.find(kResponseMark);
  if (mark == std::string::npos || text.find(kResponseMark, mark + 1) != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("messages: the reward model's chat template does not show the text ",
                                                   kResponseMark, " exactly once; leave it out of the messages"));
  }
  Surroundings surroundings{.before = model.tokenizer().Encode(text.substr(0, mark)),
                            .after = model.tokenizer().Encode(text.substr(mark + sizeof(kResponseMark) - 1))};
  if (surroundings.before.empty()) {
    return absl::InvalidArgumentError(
        "messages: the reward model's chat template puts nothing before the answer; it needs a token to begin with");
  }
  for (const std::vector<int32_t>* ids : {&surroundings.before, &surroundings.after}) {
    for (const int32_t id : *ids) {
      if (id < model.config().vocabulary_size) continue;
      return absl::InvalidArgumentError(absl::StrCat("messages: token ", id, " has no embedding in the reward model (",
                                                     model.config().vocabulary_size, " rows)"));
    }
  }
  return surroundings;
}

absl::Status CheckLength(const Model& model, const Surroundings& surroundings, int max_response_tokens) {
  const int64_t needed =
      static_cast<int64_t>(surroundings.before.size() + surroundings.after.size()) + max_response_tokens;
  if (needed <= model.max_length()) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat("max_new_tokens: prompt and answer need up to ", needed,
                                            " tokens in reward model ", model.name(), ", which takes ",
                                            model.max_length(), "; ask for less"));
}

absl::StatusOr<int32_t> WordToken(const Model& model, const std::string& word) {
  const std::vector<int32_t> ids = model.tokenizer().Encode(word);
  if (!ids.empty()) return ids.front();
  return absl::InvalidArgumentError("the verdict's words must not be empty");
}

}  // namespace

LocalRewardModel::LocalRewardModel(std::shared_ptr<ModelRunner> runner, RewardKind kind, VerdictOptions verdict)
    : runner_(std::move(runner)), model_(runner_->model()), kind_(kind), verdict_(std::move(verdict)) {}

absl::StatusOr<std::unique_ptr<LocalRewardModel>> LocalRewardModel::Load(const RewardModelOptions& options,
                                                                         const std::string& device,
                                                                         int64_t kv_cache_bytes, int threads,
                                                                         Batcher* batcher, WeightCopies copies) {
  NABLA_ASSIGN_OR_RETURN(const ModelConfig config, ModelConfig::Load(options.path));
  const auto team = std::make_shared<ThreadTeam>(ThreadCount(threads, config.parameters()));
  NABLA_ASSIGN_OR_RETURN(std::shared_ptr<const Model> model,
                         Model::Load(options.path, options.dtype, device, options.max_length, team, copies));
  const int64_t tokens = kv_cache_bytes / KvPool::BytesPerToken(model->config(), model->dtype());
  auto pool = std::make_shared<KvPool>(model->config(), tokens, model->dtype(), model->device());
  auto runner = std::make_shared<ModelRunner>(std::move(model), std::move(pool), batcher);
  NABLA_ASSIGN_OR_RETURN(std::unique_ptr<LocalRewardModel> judge, Create(runner, options));
  runner->PrepareGradients();
  return judge;
}

absl::StatusOr<std::unique_ptr<LocalRewardModel>> LocalRewardModel::Create(std::shared_ptr<ModelRunner> runner,
                                                                           const RewardModelOptions& options) {
  RewardKind kind = runner->model()->config().sequence_classifier ? RewardKind::kClassifier : RewardKind::kLikelihood;
  if (options.kind != "auto") {
    NABLA_ASSIGN_OR_RETURN(kind, ParseRewardKind(options.kind));
  }
  return Create(std::move(runner), kind,
                {.question = options.verdict_question, .yes = options.verdict_yes, .no = options.verdict_no});
}

absl::StatusOr<std::unique_ptr<LocalRewardModel>> LocalRewardModel::Create(std::shared_ptr<ModelRunner> runner,
                                                                           RewardKind kind, VerdictOptions verdict) {
  const std::shared_ptr<const Model>& model = runner->model();
  const ModelConfig& config = model->config();
  if (config.sequence_classifier != (kind == RewardKind::kClassifier)) {
    return absl::InvalidArgumentError(
        absl::StrCat("reward model ", model->name(), " is a ", config.architecture, "; reward kind ",
                     kind == RewardKind::kClassifier ? "classifier needs a …ForSequenceClassification"
                                                     : "likelihood or verdict needs a …ForCausalLM"));
  }
  if (model->chat_template() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("reward model ", model->name(), " has no chat template; add chat_template.jinja to its folder"));
  }
  std::unique_ptr<LocalRewardModel> reward(new LocalRewardModel(runner, kind, std::move(verdict)));
  if (kind == RewardKind::kVerdict) {
    NABLA_ASSIGN_OR_RETURN(reward->yes_, WordToken(*reward->model_, reward->verdict_.yes));
    NABLA_ASSIGN_OR_RETURN(reward->no_, WordToken(*reward->model_, reward->verdict_.no));
    if (reward->yes_ == reward->no_) {
      return absl::InvalidArgumentError(absl::StrCat("the verdict's words \"", reward->verdict_.yes, "\" and \"",
                                                     reward->verdict_.no,
                                                     "\" begin with the same token; choose others"));
    }
  }
  return reward;
}

absl::StatusOr<std::unique_ptr<RewardContext>> LocalRewardModel::Open(absl::Span<const ChatMessage> messages,
                                                                      int max_response_tokens, const StopToken* stop,
                                                                      absl::string_view /*traceparent*/) const {
  NABLA_ASSIGN_OR_RETURN(Surroundings surroundings, SplitTemplate(*model_, messages, kind_, verdict_));
  NABLA_RETURN_IF_ERROR(CheckLength(*model_, surroundings, max_response_tokens));
  std::unique_ptr<LocalRewardContext> context;
  NABLA_RETURN_IF_ERROR(runner_->batcher().RunAlone([&] {
    return GuardTorch([&] {
      torch::Tensor score_weight;
      if (kind_ == RewardKind::kClassifier) score_weight = model_->head_weight()[0].to(torch::kFloat32);
      if (kind_ == RewardKind::kVerdict) {
        score_weight = model_->head_weight()[yes_].to(torch::kFloat32) - model_->head_weight()[no_].to(torch::kFloat32);
      }
      context = std::make_unique<LocalRewardContext>(runner_, kind_, score_weight, std::move(surroundings),
                                                     max_response_tokens, stop);
      return absl::OkStatus();
    });
  }));
  NABLA_RETURN_IF_ERROR(context->Prefill());
  return context;
}

absl::StatusOr<int64_t> LocalRewardModel::ContextTokens(absl::Span<const ChatMessage> messages,
                                                        int max_response_tokens) const {
  NABLA_ASSIGN_OR_RETURN(const Surroundings surroundings, SplitTemplate(*model_, messages, kind_, verdict_));
  NABLA_RETURN_IF_ERROR(CheckLength(*model_, surroundings, max_response_tokens));
  return LocalRewardContext::MostTokens(surroundings, max_response_tokens);
}

absl::StatusOr<std::vector<float>> LocalRewardModel::ProjectToVocabulary(absl::Span<const float> input_gradient,
                                                                         int rows) const {
  std::vector<float> result;
  NABLA_RETURN_IF_ERROR(runner_->batcher().RunAlone([&] {
    return GuardTorch([&] {
      const torch::InferenceMode inference;
      const torch::Tensor gradient = torch::from_blob(const_cast<float*>(input_gradient.data()),
                                                      {rows, model_->config().hidden_size}, torch::kFloat32);
      const torch::Tensor projected = model_->ProjectToVocabulary(gradient).cpu().contiguous();
      result.assign(projected.data_ptr<float>(), projected.data_ptr<float>() + projected.numel());
      return absl::OkStatus();
    });
  }));
  return result;
}

std::vector<std::string> LocalRewardModel::TokenStrings() const {
  std::vector<std::string> strings(vocabulary_size());
  for (int32_t id = 0; id < vocabulary_size(); ++id) {
    std::string string = model_->tokenizer().TokenString(id);
    if (model_->tokenizer().TokenToId(string) == id) strings[id] = std::move(string);
  }
  return strings;
}

absl::StatusOr<EmbeddingTable> LocalRewardModel::Embedding() const {
  return GuardTorch([&]() -> absl::StatusOr<EmbeddingTable> {
    const auto rows = std::make_shared<const torch::Tensor>(
        model_->body().embedding().narrow(0, 0, vocabulary_size()).cpu().contiguous());
    return EmbeddingTable{.dtype = DtypeName(rows->scalar_type()),
                          .vocabulary_size = vocabulary_size(),
                          .hidden_size = static_cast<int>(rows->size(1)),
                          .bytes = absl::string_view(static_cast<const char*>(rows->data_ptr()), rows->nbytes()),
                          .owner = rows};
  });
}

int LocalRewardModel::vocabulary_size() const {
  return static_cast<int>(std::min<int64_t>(model_->config().vocabulary_size, model_->tokenizer().vocabulary_size()));
}
const std::string& LocalRewardModel::name() const { return model_->name(); }

ModelInfo LocalRewardModel::info() const {
  ModelInfo info = model_->info();
  info.reward_kind = RewardKindName(kind_);
  return info;
}

int32_t LocalRewardModel::pad_token_id() const {
  const ModelConfig& config = model_->config();
  const auto known = [this](int32_t id) { return id >= 0 && id < vocabulary_size(); };
  if (config.pad_token_id && known(*config.pad_token_id)) return *config.pad_token_id;
  return !config.eos_token_ids.empty() && known(config.eos_token_ids.front()) ? config.eos_token_ids.front() : 0;
}

}  // namespace nabla
