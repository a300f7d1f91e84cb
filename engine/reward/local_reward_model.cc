#include "engine/reward/local_reward_model.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/decode/model_runner.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/device.h"
#include "engine/model/kv_cache.h"
#include "engine/model/likelihood.h"
#include "engine/model/model.h"
#include "engine/reward/reward_kind.h"
#include "engine/text/chat_template.h"

namespace nabla {
namespace {

constexpr size_t kChunk = 512;                      // tokens of a conversation that are run at once
constexpr char kResponseMark[] = "<<<response>>>";  // where the template puts the answer

// The template's text before and behind the response.
struct Surroundings {
  std::vector<int32_t> before, after;
};

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

// Runs tokens behind what a cache holds and hands over their hidden states, pass by pass.
class ExtendJob : public SequenceJob {
 public:
  // hidden [n, H] of ids [begin, begin + n); on the execution thread.
  using OnRows = std::function<absl::Status(const torch::Tensor& hidden, int64_t begin)>;

  ExtendJob(KvCache* cache, const StopToken* stop, absl::Span<const int32_t> ids, ModelWork* work, OnRows on_rows)
      : SequenceJob(cache, stop), ids_(ids), work_(*work), on_rows_(std::move(on_rows)) {}

  absl::Span<const int32_t> pending() const override { return ids_.subspan(done_); }

  void OnHidden(const torch::Tensor& hidden) override {
    ++work_.forward_passes;
    work_.forward_tokens += hidden.size(0);
    status = GuardTorch([&] { return on_rows_(hidden, done_); });
    done_ += hidden.size(0);
  }

 private:
  const absl::Span<const int32_t> ids_;
  ModelWork& work_;
  const OnRows on_rows_;
  int64_t done_ = 0;
};

absl::StatusOr<int64_t> CheckedLength(const Model& model, const Surroundings& surroundings, int max_response_tokens) {
  const int64_t needed =
      static_cast<int64_t>(surroundings.before.size() + surroundings.after.size()) + max_response_tokens;
  if (needed <= model.max_length()) return needed;
  return absl::OutOfRangeError(absl::StrCat("max_new_tokens: prompt and answer need up to ", needed,
                                            " tokens in reward model ", model.name(), ", which takes ",
                                            model.max_length(), "; ask for less"));
}

// Keeps keys, values and hidden states of the response scored last, so that the next one pays only for what differs.
class LocalRewardContext : public RewardContext {
 public:
  LocalRewardContext(std::shared_ptr<ModelRunner> runner, RewardKind kind, torch::Tensor score_weight,
                     Surroundings surroundings, int max_response_tokens, const StopToken* stop)
      : runner_(std::move(runner)),
        model_(runner_->model()),
        kind_(kind),
        score_weight_(std::move(score_weight)),
        before_(std::move(surroundings.before)),
        after_(std::move(surroundings.after)),
        stop_(stop),
        cache_(runner_->kv_pool()),
        hidden_(torch::empty({max_response_tokens + 1, model_->config().hidden_size},
                             torch::TensorOptions(model_->dtype()).device(model_->device()))) {}

  // Runs what stands before the response, by itself and through the products that the gradient passes behind it use.
  // Gradients of a judge can be so ill-conditioned that they show the rounding of a prefix made otherwise: 2e-4 and
  // more of a gradient that agrees with Hugging Face's to 2e-5 this way.
  absl::Status Prefill() {
    return RunAlone([this]() -> absl::Status {
      const torch::InferenceMode inference;
      for (absl::Span<const int32_t> rest = before_; !rest.empty(); rest.remove_prefix(std::min(rest.size(), kChunk))) {
        if (stop_ != nullptr) NABLA_RETURN_IF_ERROR(stop_->Check());
        const absl::Span<const int32_t> chunk = rest.subspan(0, kChunk);
        NABLA_RETURN_IF_ERROR(cache_.Prepare(static_cast<int64_t>(chunk.size())));
        hidden_[0].copy_(model_->body().ExtendAsForward({&cache_, chunk})[-1]);
        ++work_.forward_passes;
        work_.forward_tokens += static_cast<int64_t>(chunk.size());
      }
      return absl::OkStatus();
    });
  }

  absl::StatusOr<double> Score(absl::Span<const int32_t> response) override {
    if (kind_ == RewardKind::kLikelihood) {
      NABLA_RETURN_IF_ERROR(Keep(response, {}, nullptr));
      return std::accumulate(log_probs_.begin(), log_probs_.end(), 0.0);
    }
    double reward = 0;
    NABLA_RETURN_IF_ERROR(Keep(response, after_, &reward));
    return reward;
  }

  absl::StatusOr<RewardGradient> ScoreGradient(absl::Span<const int32_t> response, int first) override {
    if (first > CommonPrefix(response)) NABLA_RETURN_IF_ERROR(Keep(response.subspan(0, first), {}, nullptr));
    RewardGradient result;
    NABLA_RETURN_IF_ERROR(RunAlone([&]() -> absl::Status {
      if (stop_ != nullptr) NABLA_RETURN_IF_ERROR(stop_->Check());
      result =
          kind_ == RewardKind::kLikelihood ? LikelihoodGradient(response, first) : ScoreHeadGradient(response, first);
      return absl::OkStatus();
    }));
    return result;
  }

  const ModelWork& work() const override { return work_; }

 private:
  int64_t before() const { return static_cast<int64_t>(before_.size()); }

  absl::Status RunAlone(const std::function<absl::Status()>& work) {
    return runner_->batcher().RunAlone([&work] { return GuardTorch(work); });
  }

  int CommonPrefix(absl::Span<const int32_t> response) const {
    return static_cast<int>(std::mismatch(response.begin(), response.end(), kept_.begin(), kept_.end()).first -
                            response.begin());
  }

  // Makes the cache hold exactly `response`. `after` is run behind it and dropped again; its score goes to `score`.
  absl::Status Keep(absl::Span<const int32_t> response, absl::Span<const int32_t> after, double* score) {
    const int common = CommonPrefix(response);
    Forget(common);
    const absl::Span<const int32_t> fresh = response.subspan(common);
    std::vector<int32_t> ids(fresh.begin(), fresh.end());
    ids.insert(ids.end(), after.begin(), after.end());
    if (ids.empty()) return absl::OkStatus();
    ExtendJob job(&cache_, stop_, ids, &work_, [&](const torch::Tensor& hidden, int64_t begin) {
      const int64_t rows = hidden.size(0), count = std::min(rows, static_cast<int64_t>(fresh.size()) - begin);
      if (count > 0) {
        hidden_.narrow(0, common + begin + 1, count).copy_(hidden.narrow(0, 0, count));
        if (kind_ == RewardKind::kLikelihood) AddLogProbs(fresh.subspan(begin, count), common + begin);
      }
      if (score != nullptr && begin + rows == static_cast<int64_t>(ids.size()))
        *score = ScoreOf(hidden[-1]).item<double>();
      return absl::OkStatus();
    });
    if (absl::Status status = runner_->Run(job); !status.ok()) {
      Forget(common);
      return status;
    }
    kept_.assign(response.begin(), response.end());
    cache_.Truncate(before() + static_cast<int64_t>(response.size()));
    return absl::OkStatus();
  }

  // Of response tokens [first, first + tokens.size()), whose hidden states are there.
  void AddLogProbs(absl::Span<const int32_t> tokens, int64_t first) {
    const TokenLikelihood likelihood = ComputeTokenLikelihood(
        *model_, hidden_.narrow(0, first, static_cast<int64_t>(tokens.size())), tokens, /*with_gradient=*/false);
    log_probs_.insert(log_probs_.end(), likelihood.log_probs.begin(), likelihood.log_probs.end());
  }

  // Keeps the first `count` tokens only.
  void Forget(int count) {
    kept_.resize(count);
    cache_.Truncate(before() + count);
    if (kind_ == RewardKind::kLikelihood) log_probs_.resize(count);
  }

  torch::Tensor ScoreOf(const torch::Tensor& hidden) const {
    return torch::matmul(hidden.to(torch::kFloat32), score_weight_);
  }

  // ∂/∂x of a function of the hidden states behind `ids`, given as the gradient at those hidden states.
  template <typename HiddenGradient>
  torch::Tensor Backward(absl::Span<const int32_t> ids, int64_t prefix, const HiddenGradient& hidden_gradient) {
    const int64_t count = static_cast<int64_t>(ids.size());
    const Transformer::Pass pass = model_->body().Forward(model_->body().Embed(ids), cache_, prefix);
    ++work_.forward_passes, ++work_.backward_passes;
    work_.forward_tokens += count, work_.backward_tokens += count;
    return pass.backward(hidden_gradient(pass.hidden));
  }

  RewardGradient ScoreHeadGradient(absl::Span<const int32_t> response, int first) {
    std::vector<int32_t> ids(response.begin() + first, response.end());
    ids.insert(ids.end(), after_.begin(), after_.end());
    RewardGradient result;
    const torch::Tensor gradient = Backward(ids, before() + first, [&](const torch::Tensor& hidden) {
      result.reward = ScoreOf(hidden[-1]).item<double>();
      torch::Tensor at_last = torch::zeros_like(hidden);
      at_last[-1].copy_(score_weight_);
      return at_last;
    });
    SetInputGradient(gradient, static_cast<int>(response.size()) - first, result);
    return result;
  }

  RewardGradient LikelihoodGradient(absl::Span<const int32_t> response, int first) {
    const int rows = static_cast<int>(response.size()) - first;
    RewardGradient result;
    result.reward = std::accumulate(log_probs_.begin(), log_probs_.begin() + first, 0.0);
    torch::Tensor hidden = hidden_.narrow(0, first, 1).clone();  // of every row that predicts an ahead token
    torch::Tensor gradient = torch::zeros({1, hidden.size(1)});  // the last token is a target only
    const auto add_log_probs = [&](const TokenLikelihood& likelihood) {
      result.reward = std::accumulate(likelihood.log_probs.begin(), likelihood.log_probs.end(), result.reward);
    };
    add_log_probs(ComputeTokenLikelihood(*model_, hidden, response.subspan(first, 1), false));
    if (rows > 1) {
      const torch::Tensor inputs_gradient =
          Backward(response.subspan(first, rows - 1), before() + first, [&](const torch::Tensor& behind) {
            const TokenLikelihood likelihood =
                ComputeTokenLikelihood(*model_, behind, response.subspan(first + 1), true);
            add_log_probs(likelihood);
            hidden = torch::cat({hidden, behind});
            return likelihood.hidden_gradient;
          });
      gradient = torch::cat({inputs_gradient.to(torch::kCPU, torch::kFloat32), gradient});
    }
    SetInputGradient(gradient, rows, result);
    result.log_probs = [runner = runner_, hidden](int begin, int end) -> absl::StatusOr<std::vector<float>> {
      std::vector<float> rows;
      NABLA_RETURN_IF_ERROR(runner->batcher().RunAlone([&] {
        return GuardTorch([&] {
          const torch::InferenceMode inference;
          const torch::Tensor block = LogProbs(*runner->model(), hidden, begin, end).cpu().contiguous();
          rows.assign(block.data_ptr<float>(), block.data_ptr<float>() + block.numel());
          return absl::OkStatus();
        });
      }));
      return rows;
    };
    return result;
  }

  static void SetInputGradient(const torch::Tensor& gradient, int rows, RewardGradient& result) {
    const torch::Tensor wanted = gradient.narrow(0, 0, rows).to(torch::kCPU, torch::kFloat32).contiguous();
    result.rows = rows;
    result.hidden_size = static_cast<int>(wanted.size(1));
    result.input_gradient.assign(wanted.data_ptr<float>(), wanted.data_ptr<float>() + wanted.numel());
  }

  const std::shared_ptr<ModelRunner> runner_;
  const std::shared_ptr<const Model> model_;
  const RewardKind kind_;
  const torch::Tensor
      score_weight_;  // float32 [H]; classifier and verdict are both a product with the last hidden state
  const std::vector<int32_t> before_, after_;
  const StopToken* const stop_;
  KvCache cache_;  // before_ and kept_
  std::vector<int32_t> kept_;
  torch::Tensor hidden_;           // row i predicted response token i
  std::vector<double> log_probs_;  // of kept_; likelihood only
  ModelWork work_;
};

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
                                                                         Batcher* batcher) {
  NABLA_ASSIGN_OR_RETURN(const ModelConfig config, ModelConfig::Load(options.path));
  const auto team = std::make_shared<ThreadTeam>(ThreadCount(threads, config.parameters()));
  NABLA_ASSIGN_OR_RETURN(std::shared_ptr<const Model> model,
                         Model::Load(options.path, options.dtype, device, options.max_length, team));
  const int64_t tokens = kv_cache_bytes / KvPool::BytesPerToken(model->config(), model->dtype());
  auto pool = std::make_shared<KvPool>(model->config(), tokens, model->dtype(), model->device());
  return Create(std::make_shared<ModelRunner>(std::move(model), std::move(pool), batcher), options);
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
                                                                      int max_response_tokens,
                                                                      const StopToken* stop) const {
  NABLA_ASSIGN_OR_RETURN(Surroundings surroundings, SplitTemplate(*model_, messages, kind_, verdict_));
  NABLA_RETURN_IF_ERROR(CheckedLength(*model_, surroundings, max_response_tokens).status());
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
  return CheckedLength(*model_, surroundings, max_response_tokens);
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
