#include "engine/pool/engine.h"

#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/decode/session.h"
#include "engine/model/device.h"
#include "engine/model/model.h"
#include "engine/reward/local_reward_model.h"
#include "engine/reward/response_scorer.h"
#include "engine/reward/vocabulary_map.h"
#include "engine/strategy/strategy.h"
#include "engine/text/chat_template.h"
#include "engine/text/utf8.h"

namespace nabla {
namespace {

absl::StatusOr<RewardKind> ParseRewardKind(const std::string& name, const Model& model) {
  if (name == "classifier") return RewardKind::kClassifier;
  if (name == "likelihood") return RewardKind::kLikelihood;
  if (name == "verdict") return RewardKind::kVerdict;
  if (name == "auto") return model.config().sequence_classifier ? RewardKind::kClassifier : RewardKind::kLikelihood;
  return absl::InvalidArgumentError(
      absl::StrCat("reward kind is \"", name, "\"; expected classifier, likelihood, verdict or auto"));
}

const char* RewardKindName(RewardKind kind) {
  if (kind == RewardKind::kClassifier) return "classifier";
  return kind == RewardKind::kLikelihood ? "likelihood" : "verdict";
}

ModelInfo InfoOf(const Model& model) {
  return {.name = model.name(),
          .architecture = model.config().architecture,
          .dtype = DtypeName(model.dtype()),
          .device = model.device().str(),
          .parameters = model.parameters(),
          .vocabulary_size = static_cast<int>(model.config().vocabulary_size),
          .max_length = static_cast<int>(model.max_length())};
}

absl::Status CheckUtf8(const ReasonRequest& request) {
  const auto check = [](const std::string& text, const std::string& field) {
    return IsValidUtf8(text) ? absl::OkStatus()
                             : absl::InvalidArgumentError(absl::StrCat(field, ": is not valid UTF-8"));
  };
  if (request.prompt) NABLA_RETURN_IF_ERROR(check(*request.prompt, "prompt"));
  for (size_t i = 0; i < request.messages.size(); ++i) {
    NABLA_RETURN_IF_ERROR(check(request.messages[i].content, absl::StrCat("messages[", i, "].content")));
  }
  return absl::OkStatus();
}

// A raw prompt has no turns of its own; the reward model judges the answer to it as one user turn.
std::vector<ChatMessage> Conversation(const ReasonRequest& request) {
  if (request.prompt) return {{"user", *request.prompt}};
  return request.messages;
}

}  // namespace

Engine::~Engine() = default;

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const ModelOptions& model,
                                                       const std::optional<RewardModelOptions>& reward_model) {
  std::unique_ptr<Engine> engine(new Engine());
  NABLA_ASSIGN_OR_RETURN(engine->model_, Model::Load(model.path, model.dtype, model.device, model.max_length));
  if (engine->model_->config().sequence_classifier) {
    return absl::InvalidArgumentError(
        absl::StrCat(model.path, "/config.json: ", engine->model_->config().architecture,
                     " cannot write answers; give it as the reward model and a …ForCausalLM as the model"));
  }
  engine->model_info_ = InfoOf(*engine->model_);
  if (!reward_model) return engine;

  NABLA_ASSIGN_OR_RETURN(
      std::shared_ptr<const Model> judge,
      Model::Load(reward_model->path, reward_model->dtype, reward_model->device, reward_model->max_length));
  NABLA_ASSIGN_OR_RETURN(const RewardKind kind, ParseRewardKind(reward_model->kind, *judge));
  engine->reward_model_info_ = InfoOf(*judge);
  engine->reward_model_info_->reward_kind = RewardKindName(kind);
  NABLA_ASSIGN_OR_RETURN(engine->reward_model_, LocalRewardModel::Create(std::move(judge), kind,
                                                                         {.question = reward_model->verdict_question,
                                                                          .yes = reward_model->verdict_yes,
                                                                          .no = reward_model->verdict_no}));
  engine->vocabulary_map_ = std::make_unique<VocabularyMap>(
      engine->model_->tokenizer(), static_cast<int>(engine->model_->vocabulary_size()), *engine->reward_model_);
  return engine;
}

absl::StatusOr<Engine::Prepared> Engine::Prepare(ReasonRequest request) const {
  NABLA_RETURN_IF_ERROR(Validate(request));
  NABLA_RETURN_IF_ERROR(CheckUtf8(request));
  if (NeedsReward(request.strategy) && reward_model_ == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("strategy ", StrategyName(request.strategy),
                     " needs a reward model and this server has none; start it with --reward_model or ask for greedy"));
  }
  Prepared prepared;
  if (request.prompt) {
    prepared.prompt_ids = model_->tokenizer().Encode(*request.prompt);
  } else if (model_->chat_template() == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("messages: model ", model_->name(), " has no chat template; send prompt instead"));
  } else {
    NABLA_ASSIGN_OR_RETURN(const std::string text,
                           model_->chat_template()->Render(request.messages, /*add_generation_prompt=*/true));
    prepared.prompt_ids = model_->tokenizer().Encode(text);
  }
  const int64_t prompt = static_cast<int64_t>(prepared.prompt_ids.size());
  if (prompt >= model_->max_length()) {
    return absl::OutOfRangeError(absl::StrCat(request.prompt ? "prompt" : "messages", ": has ", prompt,
                                              " tokens; model ", model_->name(), " takes ", model_->max_length(),
                                              " with the answer, so shorten it to at most ", model_->max_length() - 1));
  }
  request.max_new_tokens = static_cast<int>(std::min<int64_t>(request.max_new_tokens, model_->max_length() - prompt));
  prepared.request = std::move(request);
  return prepared;
}

absl::StatusOr<ReasonResult> Engine::Run(const Prepared& prepared, absl::Duration queue_time, const StopToken& stop,
                                         EventSink& sink) const {
  const ReasonRequest& request = prepared.request;
  const absl::Time start = absl::Now();
  const int64_t tokens = static_cast<int64_t>(prepared.prompt_ids.size()) + request.max_new_tokens;
  cached_tokens_ += tokens;
  const absl::Cleanup release = [this, tokens] { cached_tokens_ -= tokens; };

  NABLA_RETURN_IF_ERROR(stop.Check());
  const bool scored = NeedsReward(request.strategy);
  sink.OnEvent(StartedEvent{.model = model_->name(),
                            .reward_model = scored ? reward_model_->name() : "",
                            .strategy = StrategyName(request.strategy),
                            .seed = request.seed,
                            .prompt_tokens = static_cast<int>(prepared.prompt_ids.size()),
                            .max_new_tokens = request.max_new_tokens});
  Usage usage{.queue_time = queue_time};
  std::unique_ptr<ResponseScorer> scorer;
  if (scored) {
    NABLA_ASSIGN_OR_RETURN(std::unique_ptr<RewardContext> context,
                           reward_model_->Open(Conversation(request), request.max_new_tokens));
    scorer = std::make_unique<ResponseScorer>(reward_model_.get(), vocabulary_map_.get(), std::move(context), &usage);
  }
  NABLA_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                         Session::Create(model_,
                                         {.prompt_ids = prepared.prompt_ids,
                                          .max_new_tokens = request.max_new_tokens,
                                          .stop = request.stop,
                                          .seed = request.seed},
                                         &stop, &sink, &usage));
  NABLA_ASSIGN_OR_RETURN(ReasonResult result, GuardTorch([&] { return RunStrategy(request, *session, scorer.get()); }));
  usage.completion_tokens = static_cast<int>(result.token_ids.size());
  usage.total_time = absl::Now() - start;
  result.usage = usage;
  return result;
}

void Engine::SetThreads(int threads) { at::set_num_threads(threads); }

}  // namespace nabla
