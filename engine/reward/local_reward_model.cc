#include "engine/reward/local_reward_model.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/device.h"
#include "engine/model/kv_cache.h"
#include "engine/model/likelihood.h"
#include "engine/model/model.h"
#include "engine/text/chat_template.h"

namespace nabla {
namespace {

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
  return Surroundings{.before = model.tokenizer().Encode(text.substr(0, mark)),
                      .after = model.tokenizer().Encode(text.substr(mark + sizeof(kResponseMark) - 1))};
}

// Keeps keys, values and hidden states of the response scored last, so that the next one pays only for what differs.
class LocalRewardContext : public RewardContext {
 public:
  LocalRewardContext(std::shared_ptr<const Model> model, RewardKind kind, torch::Tensor score_weight,
                     Surroundings surroundings, int max_response_tokens)
      : model_(std::move(model)),
        kind_(kind),
        score_weight_(std::move(score_weight)),
        before_(std::move(surroundings.before)),
        after_(std::move(surroundings.after)),
        cache_(model_->config(), static_cast<int64_t>(before_.size() + after_.size()) + max_response_tokens,
               model_->dtype(), model_->device()),
        hidden_(torch::empty({max_response_tokens + 1, model_->config().hidden_size},
                             torch::TensorOptions(model_->dtype()).device(model_->device()))) {}

  // Runs what stands before the response.
  void Prefill() { hidden_[0].copy_(Extend(before_)[-1]); }

  absl::StatusOr<double> Score(absl::Span<const int32_t> response) override {
    return GuardTorch([&]() -> absl::StatusOr<double> {
      if (kind_ == RewardKind::kLikelihood) {
        Keep(response, {});
        return std::accumulate(log_probs_.begin(), log_probs_.begin() + response.size(), 0.0);
      }
      return ScoreOf(Keep(response, after_)[-1]).item<double>();
    });
  }

  absl::StatusOr<RewardGradient> ScoreGradient(absl::Span<const int32_t> response, int first) override {
    return GuardTorch([&]() -> absl::StatusOr<RewardGradient> {
      if (first > CommonPrefix(response)) Keep(response.subspan(0, first), {});
      return kind_ == RewardKind::kLikelihood ? LikelihoodGradient(response, first)
                                              : ScoreHeadGradient(response, first);
    });
  }

  const ModelWork& work() const override { return work_; }

 private:
  int64_t before() const { return static_cast<int64_t>(before_.size()); }

  torch::Tensor Extend(absl::Span<const int32_t> ids) {
    const torch::InferenceMode inference;
    ++work_.forward_passes;
    work_.forward_tokens += static_cast<int64_t>(ids.size());
    return model_->body().Extend(model_->body().Embed(ids), cache_);
  }

  int CommonPrefix(absl::Span<const int32_t> response) const {
    return static_cast<int>(std::mismatch(response.begin(), response.end(), kept_.begin(), kept_.end()).first -
                            response.begin());
  }

  // Makes the cache hold exactly `response`; `after` is run behind it and dropped again. Returns the hidden states of
  // what was run.
  torch::Tensor Keep(absl::Span<const int32_t> response, absl::Span<const int32_t> after) {
    const torch::InferenceMode inference;
    const int common = CommonPrefix(response);
    kept_.assign(response.begin(), response.end());
    cache_.Truncate(before() + common);
    const absl::Span<const int32_t> fresh = response.subspan(common);
    std::vector<int32_t> ids(fresh.begin(), fresh.end());
    ids.insert(ids.end(), after.begin(), after.end());
    torch::Tensor hidden;
    if (!ids.empty()) hidden = Extend(ids);
    cache_.Truncate(before() + static_cast<int64_t>(response.size()));
    const int64_t count = static_cast<int64_t>(fresh.size());
    if (count > 0) hidden_.narrow(0, common + 1, count).copy_(hidden.narrow(0, 0, count));
    if (kind_ == RewardKind::kLikelihood) {
      log_probs_.resize(common);
      const TokenLikelihood fresh_likelihood =
          ComputeTokenLikelihood(*model_, hidden_.narrow(0, common, count), fresh, false);
      log_probs_.insert(log_probs_.end(), fresh_likelihood.log_probs.begin(), fresh_likelihood.log_probs.end());
    }
    return hidden;
  }

  torch::Tensor ScoreOf(const torch::Tensor& hidden) const {
    return torch::matmul(hidden.to(torch::kFloat32), score_weight_);
  }

  // ∂/∂x of a function of the hidden states behind `ids`, given as the gradient at those hidden states.
  template <typename HiddenGradient>
  torch::Tensor Backward(absl::Span<const int32_t> ids, int64_t prefix, const HiddenGradient& hidden_gradient) {
    const torch::AutoGradMode with_gradient(true);
    const int64_t count = static_cast<int64_t>(ids.size());
    const torch::Tensor inputs = model_->body().Embed(ids).detach().requires_grad_(true);
    const torch::Tensor hidden = model_->body().Forward(inputs, cache_, prefix);
    ++work_.forward_passes, ++work_.backward_passes;
    work_.forward_tokens += count, work_.backward_tokens += count;
    return torch::autograd::grad({hidden}, {inputs}, {hidden_gradient(hidden.detach())})[0];
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
    result.log_probs = [model = model_, hidden](int begin, int end) -> absl::StatusOr<std::vector<float>> {
      return GuardTorch([&]() -> absl::StatusOr<std::vector<float>> {
        const torch::InferenceMode inference;
        const torch::Tensor block = LogProbs(*model, hidden, begin, end).cpu().contiguous();
        return std::vector<float>(block.data_ptr<float>(), block.data_ptr<float>() + block.numel());
      });
    };
    return result;
  }

  static void SetInputGradient(const torch::Tensor& gradient, int rows, RewardGradient& result) {
    const torch::Tensor wanted = gradient.narrow(0, 0, rows).to(torch::kCPU, torch::kFloat32).contiguous();
    result.rows = rows;
    result.hidden_size = static_cast<int>(wanted.size(1));
    result.input_gradient.assign(wanted.data_ptr<float>(), wanted.data_ptr<float>() + wanted.numel());
  }

  const std::shared_ptr<const Model> model_;
  const RewardKind kind_;
  const torch::Tensor
      score_weight_;  // float32 [H]; classifier and verdict are both a product with the last hidden state
  const std::vector<int32_t> before_, after_;
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

absl::StatusOr<std::unique_ptr<LocalRewardModel>> LocalRewardModel::Create(std::shared_ptr<const Model> model,
                                                                           RewardKind kind, VerdictOptions verdict) {
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
  std::unique_ptr<LocalRewardModel> reward(new LocalRewardModel(std::move(model), kind, std::move(verdict)));
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
                                                                      int max_response_tokens) const {
  NABLA_ASSIGN_OR_RETURN(Surroundings surroundings, SplitTemplate(*model_, messages, kind_, verdict_));
  const int64_t needed =
      static_cast<int64_t>(surroundings.before.size() + surroundings.after.size()) + max_response_tokens;
  if (needed > model_->max_length()) {
    return absl::OutOfRangeError(absl::StrCat("max_new_tokens: prompt and answer need up to ", needed,
                                              " tokens in reward model ", name(), ", which takes ",
                                              model_->max_length(), "; ask for less"));
  }
  return GuardTorch([&]() -> absl::StatusOr<std::unique_ptr<RewardContext>> {
    torch::Tensor score_weight;
    if (kind_ == RewardKind::kClassifier) score_weight = model_->head_weight()[0].to(torch::kFloat32);
    if (kind_ == RewardKind::kVerdict) {
      score_weight = model_->head_weight()[yes_].to(torch::kFloat32) - model_->head_weight()[no_].to(torch::kFloat32);
    }
    auto context =
        std::make_unique<LocalRewardContext>(model_, kind_, score_weight, std::move(surroundings), max_response_tokens);
    context->Prefill();
    return context;
  });
}

absl::StatusOr<std::vector<float>> LocalRewardModel::ProjectToVocabulary(absl::Span<const float> input_gradient,
                                                                         int rows) const {
  return GuardTorch([&]() -> absl::StatusOr<std::vector<float>> {
    const torch::InferenceMode inference;
    const torch::Tensor gradient = torch::from_blob(const_cast<float*>(input_gradient.data()),
                                                    {rows, model_->config().hidden_size}, torch::kFloat32);
    const torch::Tensor projected = model_->ProjectToVocabulary(gradient).cpu().contiguous();
    return std::vector<float>(projected.data_ptr<float>(), projected.data_ptr<float>() + projected.numel());
  });
}

const Tokenizer& LocalRewardModel::tokenizer() const { return model_->tokenizer(); }
int LocalRewardModel::vocabulary_size() const {
  return static_cast<int>(std::min<int64_t>(model_->config().vocabulary_size, model_->tokenizer().vocabulary_size()));
}
const std::string& LocalRewardModel::name() const { return model_->name(); }

int32_t LocalRewardModel::pad_token_id() const {
  const ModelConfig& config = model_->config();
  if (config.pad_token_id) return *config.pad_token_id;
  return config.eos_token_ids.empty() ? 0 : config.eos_token_ids.front();
}

}  // namespace nabla
