#include "engine/pool/model_engine.h"

#include <algorithm>
#include <future>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/decode/batcher.h"
#include "engine/decode/model_runner.h"
#include "engine/decode/session.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/device.h"
#include "engine/model/kv_pool.h"
#include "engine/model/model.h"
#include "engine/model/model_config.h"
#include "engine/model/row_parts.h"
#include "engine/model/weight_memory.h"
#include "engine/pool/limits.h"
#include "engine/pool/pool_of_engines.h"
#include "engine/reward/local_reward_model.h"
#include "engine/reward/response_scorer.h"
#include "engine/reward/vocabulary_map.h"
#include "engine/strategy/strategy.h"
#include "engine/text/chat_template.h"
#include "engine/text/utf8.h"

namespace nabla {
namespace {

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

bool UsesDraftModel(const EnginePoolOptions& options, const Model& model) {
  if (options.max_draft_tokens == 0 || options.draft_weights == "none" || !model.device().is_cpu()) return false;
  if (options.rollout_weights == "int8") return false;  // decodes as fast as it would guess
  const int64_t bytes = model.config().parameters() * model.head_weight().element_size();
  return options.draft_weights == "int8" || bytes > kMostCachedBytes;
}

// A draft stands for the language model's text token by token.
absl::Status CheckDraftModel(const Model& draft, const Model& writer, const std::string& path) {
  if (draft.config().sequence_classifier) {
    return absl::InvalidArgumentError(absl::StrCat(path, "/config.json: ", draft.config().architecture,
                                                   " cannot write drafts; give a …ForCausalLM as the draft model"));
  }
  const Tokenizer &ours = draft.tokenizer(), &theirs = writer.tokenizer();
  bool same = ours.vocabulary_size() == theirs.vocabulary_size();
  for (int32_t id = 0; same && id < ours.vocabulary_size(); ++id) {
    same = ours.TokenString(id) == theirs.TokenString(id) && draft.IsEndOfSequence(id) == writer.IsEndOfSequence(id);
  }
  if (same) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": the draft model must have the language model's tokenizer and end-of-sequence tokens (",
                   writer.name(), "); name a smaller model of the same family"));
}

// Whether the likeliest tokens of a rollout, or whatever it has drawn, are where gradients are taken.
bool TakesGradientsAtRollouts(const StrategyOptions& strategy) {
  const auto* nabla = std::get_if<NablaOptions>(&strategy);
  return nabla != nullptr && (nabla->rollout.temperature == 0 || nabla->max_sweeps > 1 ||
                              nabla->refinement.anchor == RefinementOptions::Anchor::kRollout);
}

// A raw prompt has no turns of its own; the reward model judges the answer to it as one user turn.
std::vector<ChatMessage> Conversation(const ReasonRequest& request) {
  if (request.prompt) return {{"user", *request.prompt}};
  return request.messages;
}

}  // namespace

ModelEngine::ModelEngine() = default;
ModelEngine::~ModelEngine() = default;

const Model& ModelEngine::model() const { return *runner_->model(); }

absl::StatusOr<std::unique_ptr<ModelEngine>> ModelEngine::Create(const EnginePoolOptions& options,
                                                                 const std::string& device,
                                                                 const RewardModelFactory& reward_model_factory) {
  std::unique_ptr<ModelEngine> engine(new ModelEngine());
  engine->batcher_ = std::make_unique<Batcher>(Batcher::Options{
      .max_batch_tokens = options.max_batch_tokens, .on_thread_start = UseOneTorchThread, .on_pass = options.on_batch});
  NABLA_RETURN_IF_ERROR(engine->Load(options, device, reward_model_factory));
  return engine;
}

absl::Status ModelEngine::Load(const EnginePoolOptions& options, const std::string& device,
                               const RewardModelFactory& reward_model_factory) {
  max_draft_tokens_ = options.max_draft_tokens;
  on_usage_ = options.on_usage;
  const ModelOptions& names = options.model;
  NABLA_ASSIGN_OR_RETURN(const ModelConfig config, ModelConfig::Load(names.path));
  int64_t parameters = config.parameters();  // of the largest model
  std::vector<RewardModelOptions> rewards;   // those loaded here; the guard models last
  if (options.reward_model && !reward_model_factory) rewards.push_back(*options.reward_model);
  for (const ModelOptions& guard : options.guard_models) {
    rewards.push_back({.path = guard.path, .dtype = guard.dtype, .max_length = guard.max_length});
  }
  for (const RewardModelOptions& reward : rewards) {
    NABLA_ASSIGN_OR_RETURN(const ModelConfig reward_config, ModelConfig::Load(reward.path));
    parameters = std::max(parameters, reward_config.parameters());
  }
  const auto team = std::make_shared<ThreadTeam>(ThreadCount(options.threads, parameters));
  const WeightCopies copies = {.for_gradients = options.gradient_weights == "packed"};
  WeightCopies writer_copies = copies;
  writer_copies.int8_rollouts = options.rollout_weights == "int8";
  // Side by side: much of a start is reading tokenizers, which takes one core.
  std::vector<std::future<absl::StatusOr<std::shared_ptr<const Model>>>> loading;
  for (const RewardModelOptions& reward : rewards) {
    loading.push_back(std::async(std::launch::async, [&] {
      return Model::Load(reward.path, reward.dtype, device, reward.max_length, team, copies);
    }));
  }
  NABLA_ASSIGN_OR_RETURN(std::shared_ptr<const Model> writer,
                         Model::Load(names.path, names.dtype, device, names.max_length, team, writer_copies));
  if (writer->config().sequence_classifier) {
    return absl::InvalidArgumentError(
        absl::StrCat(names.path, "/config.json: ", writer->config().architecture,
                     " cannot write answers; give it as the reward model and a …ForCausalLM as the model"));
  }
  std::vector<std::shared_ptr<const Model>> judges;  // of `rewards`
  for (auto& judge : loading) {
    NABLA_ASSIGN_OR_RETURN(judges.emplace_back(), judge.get());
  }
  std::shared_ptr<const Model> draft;
  if (options.draft_model) {
    const int max_length = static_cast<int>(writer->max_length());
    NABLA_ASSIGN_OR_RETURN(
        draft, Model::Load(options.draft_model->path, options.draft_model->dtype, device, max_length, team));
    NABLA_RETURN_IF_ERROR(CheckDraftModel(*draft, *writer, options.draft_model->path));
    infos_.draft_model = draft->info();
  }
  // All models hold about the same text, so all get the same number of positions.
  int64_t bytes_per_token = KvPool::BytesPerToken(writer->config(), writer->dtype());
  if (draft != nullptr) bytes_per_token += KvPool::BytesPerToken(draft->config(), draft->dtype());
  for (const auto& judge : judges) bytes_per_token += KvPool::BytesPerToken(judge->config(), judge->dtype());
  const int64_t tokens = options.kv_cache_bytes / bytes_per_token / kBlockTokens * kBlockTokens;
  if (tokens == 0) {
    return absl::InvalidArgumentError(absl::StrCat("kv_cache_bytes is ", options.kv_cache_bytes, "; these models need ",
                                                   bytes_per_token * kBlockTokens, " for every ", kBlockTokens,
                                                   " tokens"));
  }
  const auto run = [&](std::shared_ptr<const Model> model, bool drafts = false,
                       std::shared_ptr<MemoryBudget> activations =
                           nullptr) -> absl::StatusOr<std::unique_ptr<ModelRunner>> {
    return GuardTorch([&]() -> absl::StatusOr<std::unique_ptr<ModelRunner>> {
      auto pool = std::make_shared<KvPool>(model->config(), tokens, model->dtype(), model->device());
      return std::make_unique<ModelRunner>(model, std::move(pool), batcher_.get(),
                                           drafts ? model->QuantizedCopy() : nullptr, std::move(activations));
    });
  };
  const auto activations = std::make_shared<MemoryBudget>(options.activation_bytes);
  NABLA_ASSIGN_OR_RETURN(runner_, run(writer, UsesDraftModel(options, *writer), activations));
  infos_.model = writer->info();
  if (draft != nullptr) {
    NABLA_ASSIGN_OR_RETURN(draft_runner_, run(draft));
  }

  const auto translate = [this](Reward reward) {
    reward.map = std::make_unique<VocabularyMap>(model().tokenizer(), static_cast<int>(model().vocabulary_size()),
                                                 *reward.model);
    return std::make_shared<const Reward>(std::move(reward));
  };
  if (reward_model_factory) {
    NABLA_ASSIGN_OR_RETURN(remote_reward_, RewardConnection::Create([=, this](const StopToken* stop) {
                             return GuardTorch([&]() -> absl::StatusOr<std::shared_ptr<const Reward>> {
                               Reward remote;
                               NABLA_ASSIGN_OR_RETURN(remote.model, reward_model_factory(batcher_.get(), device, stop));
                               return translate(std::move(remote));
                             });
                           }));
  }
  for (size_t i = 0; i < rewards.size(); ++i) {
    Reward reward;
    NABLA_ASSIGN_OR_RETURN(reward.runner, run(judges[i], /*drafts=*/false, activations));
    NABLA_ASSIGN_OR_RETURN(std::unique_ptr<LocalRewardModel> local,
                           LocalRewardModel::Create(reward.runner, rewards[i]));
    reward.local = local.get();
    reward.model = std::move(local);
    if (i + options.guard_models.size() < rewards.size()) {
      local_reward_ = translate(std::move(reward));
    } else {
      guards_.push_back(translate(std::move(reward)));
      infos_.guard_models.push_back(guards_.back()->model->info());
    }
  }
  if (reward() != nullptr) runner_->PrepareGradients();
  if (local_reward_ != nullptr) local_reward_->runner->PrepareGradients();
  return absl::OkStatus();
}

std::shared_ptr<const Reward> ModelEngine::reward() const {
  return remote_reward_ != nullptr ? remote_reward_->current() : local_reward_;
}

ModelInfos ModelEngine::models() const {
  ModelInfos infos = infos_;
  if (const std::shared_ptr<const Reward> now = reward(); now != nullptr) infos.reward_model = now->model->info();
  return infos;
}

absl::StatusOr<Engine::Prepared> ModelEngine::Prepare(ReasonRequest request) const {
  NABLA_RETURN_IF_ERROR(Validate(request));
  NABLA_RETURN_IF_ERROR(CheckUtf8(request));
  if (NeedsReward(request.strategy) && reward() == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("strategy ", StrategyName(request.strategy),
                                                      " needs a reward model and this server has none; start it with "
                                                      "--reward_model or --reward_address, or ask for greedy"));
  }
  if (NeedsDraftModel(request.strategy) && draft_runner_ == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("strategy ", StrategyName(request.strategy),
                                                      " needs a draft model and this server has none; start it with "
                                                      "--draft_model, or ask for best_of_n"));
  }
  if (NeedsGuardModels(request.strategy) && guards_.empty()) {
    return absl::FailedPreconditionError(
        "nabla.unanimous: this server has no guard models; start it with --guard_models, or leave it out");
  }
  Prepared prepared;
  if (request.prompt) {
    prepared.prompt_ids = model().tokenizer().Encode(*request.prompt);
  } else if (model().chat_template() == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("messages: model ", model().name(), " has no chat template; send prompt instead"));
  } else {
    NABLA_ASSIGN_OR_RETURN(const std::string text,
                           model().chat_template()->Render(request.messages, /*add_generation_prompt=*/true));
    prepared.prompt_ids = model().tokenizer().Encode(text);
  }
  const int64_t prompt = static_cast<int64_t>(prepared.prompt_ids.size());
  if (prompt >= model().max_length()) {
    return absl::OutOfRangeError(absl::StrCat(request.prompt ? "prompt" : "messages", ": has ", prompt,
                                              " tokens; model ", model().name(), " takes ", model().max_length(),
                                              " with the answer, so shorten it to at most ", model().max_length() - 1));
  }
  request.max_new_tokens = static_cast<int>(std::min<int64_t>(request.max_new_tokens, model().max_length() - prompt));
  NABLA_ASSIGN_OR_RETURN(prepared.kv_tokens, KvTokens(request, prompt));
  prepared.request = std::move(request);
  return prepared;
}

// Positions that the request may come to hold: its prompt and its responses, each of which begins and ends in a block
// that it has for itself.
absl::StatusOr<int64_t> ModelEngine::KvTokens(const ReasonRequest& request, int64_t prompt_tokens) const {
  const int64_t responses = MostHeld(request.strategy);
  int64_t tokens = prompt_tokens + responses * request.max_new_tokens;
  for (const std::shared_ptr<const Reward>& reward : RewardsFor(request)) {
    if (reward->local == nullptr) continue;
    NABLA_ASSIGN_OR_RETURN(const int64_t reward_tokens,
                           reward->local->ContextTokens(Conversation(request), request.max_new_tokens));
    tokens = std::max(tokens, reward_tokens);
  }
  tokens += (2 * responses + 1) * kBlockTokens;
  const int64_t capacity = runner_->kv_pool()->load().capacity_tokens;
  if (tokens <= capacity) return tokens;
  return absl::OutOfRangeError(absl::StrCat("max_new_tokens: prompt and answers may need ", tokens,
                                            " tokens of key/value memory; this server has ", capacity,
                                            ", so ask for less or raise its --kv_cache_bytes"));
}

std::vector<KvPool*> ModelEngine::KvPools() const {
  std::vector<KvPool*> pools;
  const auto add = [&](const ModelRunner* runner) {
    if (runner != nullptr) pools.push_back(runner->kv_pool().get());
  };
  add(runner_.get());
  add(draft_runner_.get());
  if (local_reward_ != nullptr) add(local_reward_->runner.get());
  for (const std::shared_ptr<const Reward>& guard : guards_) add(guard->runner.get());
  return pools;
}

bool ModelEngine::TryReserve(int64_t kv_tokens) {
  std::vector<KvPool*> reserved;
  for (KvPool* pool : KvPools()) {
    if (!pool->TryReserve(kv_tokens)) {
      for (KvPool* other : reserved) other->Release(kv_tokens);
      return false;
    }
    reserved.push_back(pool);
  }
  return true;
}

void ModelEngine::Release(int64_t kv_tokens) {
  for (KvPool* pool : KvPools()) pool->Release(kv_tokens);
}

// The reward model first, then the guard models; those that the request asks.
std::vector<std::shared_ptr<const Reward>> ModelEngine::RewardsFor(const ReasonRequest& request) const {
  std::vector<std::shared_ptr<const Reward>> rewards;
  if (NeedsReward(request.strategy)) rewards.push_back(reward());
  const auto* nabla = std::get_if<NablaOptions>(&request.strategy);
  if (nabla != nullptr && nabla->unanimous != NablaOptions::Unanimity::kNo) {
    rewards.insert(rewards.end(), guards_.begin(), guards_.end());
  }
  return rewards;
}

// Of what the other process serves by now, where that is no longer `reward`.
absl::StatusOr<std::unique_ptr<RewardContext>> ModelEngine::OpenContext(std::shared_ptr<const Reward>& reward,
                                                                        const ReasonRequest& request,
                                                                        const StopToken& stop) const {
  const auto open = [&] {
    return reward->model->Open(Conversation(request), request.max_new_tokens, &stop, request.traceparent);
  };
  absl::StatusOr<std::unique_ptr<RewardContext>> context = open();
  if (context.ok() || !reward->model->replaced()) return context;
  absl::StatusOr<std::shared_ptr<const Reward>> renewed = remote_reward_->Renew(*reward, stop);
  // What is wrong with the other process, or with this one's files for it, is no fault of the request's.
  if (absl::IsFailedPrecondition(renewed.status()) || absl::IsInvalidArgument(renewed.status())) {
    return absl::UnavailableError(renewed.status().message());
  }
  NABLA_ASSIGN_OR_RETURN(reward, std::move(renewed));
  return open();
}

// Null where the reward model, a remote one, is lost and the request goes on without.
absl::StatusOr<std::unique_ptr<ResponseScorer>> ModelEngine::OpenScorer(std::shared_ptr<const Reward>& reward,
                                                                        const ReasonRequest& request,
                                                                        const StopToken& stop, ModelWork* work) const {
  absl::StatusOr<std::unique_ptr<RewardContext>> context = OpenContext(reward, request, stop);
  const auto* nabla = std::get_if<NablaOptions>(&request.strategy);
  if (absl::IsUnavailable(context.status()) && stop.Check().ok() && nabla != nullptr &&
      nabla->continue_without_reward && reward->local == nullptr) {
    return nullptr;
  }
  NABLA_RETURN_IF_ERROR(context.status());
  return std::make_unique<ResponseScorer>(reward->model.get(), reward->map.get(), *std::move(context), work);
}

absl::StatusOr<ReasonResult> ModelEngine::Run(const Prepared& prepared, absl::Duration queue_time,
                                              const StopToken& stop, EventSink& sink) {
  const absl::Time start = absl::Now();
  Usage usage{.queue_time = queue_time};
  absl::StatusOr<ReasonResult> result = GuardTorch([&] { return RunPrepared(prepared, stop, sink, usage); });
  usage.total_time = absl::Now() - start;
  if (on_usage_) on_usage_(usage);
  if (result.ok()) result->usage = usage;
  return result;
}

absl::StatusOr<ReasonResult> ModelEngine::RunPrepared(const Prepared& prepared, const StopToken& stop, EventSink& sink,
                                                      Usage& usage) {
  const ReasonRequest& request = prepared.request;
  NABLA_RETURN_IF_ERROR(stop.Check());
  std::vector<std::shared_ptr<const Reward>> rewards = RewardsFor(request);
  sink.OnEvent(StartedEvent{.model = model().name(),
                            .reward_model = NeedsReward(request.strategy) ? rewards.front()->model->name() : "",
                            .strategy = StrategyName(request.strategy),
                            .seed = request.seed,
                            .prompt_tokens = static_cast<int>(prepared.prompt_ids.size()),
                            .max_new_tokens = request.max_new_tokens});
  std::vector<ModelWork> works(rewards.size());
  const auto add_works = absl::MakeCleanup([&] {
    for (const ModelWork& work : works) usage.reward_model += work;
  });
  std::vector<std::unique_ptr<ResponseScorer>> scorers;
  for (size_t i = 0; i < rewards.size(); ++i) {
    NABLA_ASSIGN_OR_RETURN(std::unique_ptr<ResponseScorer> opened, OpenScorer(rewards[i], request, stop, &works[i]));
    scorers.push_back(std::move(opened));
  }
  ResponseScorer* const scorer = scorers.empty() ? nullptr : scorers.front().get();
  const bool at_rollouts = TakesGradientsAtRollouts(request.strategy);
  if (scorer != nullptr && at_rollouts) NABLA_RETURN_IF_ERROR(scorer->ExpectGradients());
  std::vector<ResponseScorer*> guards;
  for (size_t i = 1; i < scorers.size(); ++i) guards.push_back(scorers[i].get());
  Session::Options options{.prompt_ids = prepared.prompt_ids,
                           .max_new_tokens = request.max_new_tokens,
                           .stop = request.stop,
                           .seed = request.seed,
                           .max_draft_tokens = max_draft_tokens_,
                           .keep_activations = at_rollouts};
  NABLA_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session,
                         Session::Create(runner_.get(), options, &stop, &sink, &usage));
  const auto count_tokens = absl::MakeCleanup([&] { usage.completion_tokens = session->told(); });
  std::unique_ptr<Session> draft;
  if (NeedsDraftModel(request.strategy)) {
    options.keep_hidden = options.keep_activations = false;
    options.is_draft = true;
    NABLA_ASSIGN_OR_RETURN(draft,
                           Session::Create(draft_runner_.get(), std::move(options), &stop, /*sink=*/nullptr, &usage));
  }
  return RunStrategy(request, *session, scorer, draft.get(), guards);
}

EngineLoad ModelEngine::load() const {
  const KvPool::Load kv = runner_->kv_pool()->load();
  return {.device = infos_.model.device,
          .healthy = batcher_->healthy(),
          .stuck = batcher_->time_without_progress() > kStuckAfter,
          .kv_cache_usage_ratio = static_cast<double>(kv.reserved_tokens) / static_cast<double>(kv.capacity_tokens),
          .prefix_cache_hit_tokens = kv.prefix_hit_tokens};
}

absl::StatusOr<std::unique_ptr<EnginePool>> EnginePool::Create(const EnginePoolOptions& options,
                                                               const RewardModelFactory& reward_model_factory) {
  NABLA_RETURN_IF_ERROR(ValidateEnginePoolOptions(options));
  std::vector<std::unique_ptr<Engine>> engines;
  for (const std::string& device : options.devices) {
    NABLA_ASSIGN_OR_RETURN(std::unique_ptr<ModelEngine> engine,
                           ModelEngine::Create(options, device, reward_model_factory));
    engines.push_back(std::move(engine));
  }
  return MakeEnginePool(options, std::move(engines));
}

}  // namespace nabla
