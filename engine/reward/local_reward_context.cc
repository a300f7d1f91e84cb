#include "engine/reward/local_reward_context.h"

#include <algorithm>
#include <cstddef>
#include <deque>
#include <numeric>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "engine/base/status_macros.h"
#include "engine/model/device.h"
#include "engine/model/kv_pool.h"
#include "engine/model/likelihood.h"

namespace nabla {
namespace {

constexpr size_t kChunk = 512;  // tokens of a conversation that are run at once

// Key/value positions beside those of two responses, for short ones that are scored together.
constexpr int64_t kSparePositions = 128;

// What starting a pass takes, in rows of one, about.
constexpr int64_t kRowsOfAPass = 16;

int64_t CommonLength(absl::Span<const int32_t> a, absl::Span<const int32_t> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

// Runs tokens behind what a cache holds and hands over their hidden states, pass by pass, or the last one's.
class ExtendJob : public SequenceJob {
 public:
  enum class Hidden { kAll, kLast };
  // hidden [n, H] of ids [begin, begin + n); on the execution thread.
  using OnRows = std::function<absl::Status(const torch::Tensor& hidden, int64_t begin)>;

  ExtendJob(KvCache* cache, RecordedRows* record, const StopToken* stop, absl::Span<const int32_t> ids, Hidden wanted,
            ModelWork* work, OnRows on_rows)
      : SequenceJob(cache, stop),
        record_(record),
        ids_(ids),
        wanted_(wanted),
        work_(*work),
        on_rows_(std::move(on_rows)) {}

  absl::Span<const int32_t> pending() const override { return ids_.subspan(done_); }
  RecordedRows* record() override { return record_; }
  int64_t HiddenWanted(int64_t rows) const override {
    if (wanted_ == Hidden::kAll) return rows;
    return done_ + rows == static_cast<int64_t>(ids_.size()) ? 1 : 0;
  }

  void OnHidden(const torch::Tensor& hidden, int64_t rows_run) override {
    ++work_.forward_passes;
    work_.forward_tokens += rows_run;
    done_ += rows_run;
    status = GuardTorch([&] { return on_rows_(hidden, done_ - hidden.size(0)); });
  }

 private:
  RecordedRows* const record_;
  const absl::Span<const int32_t> ids_;
  const Hidden wanted_;
  ModelWork& work_;
  const OnRows on_rows_;
  int64_t done_ = 0;
};

void SetInputGradient(const torch::Tensor& gradient, int rows, RewardGradient& result) {
  const torch::Tensor wanted = gradient.narrow(0, 0, rows).to(torch::kCPU, torch::kFloat32).contiguous();
  result.rows = rows;
  result.hidden_size = static_cast<int>(wanted.size(1));
  result.input_gradient.assign(wanted.data_ptr<float>(), wanted.data_ptr<float>() + wanted.numel());
}

}  // namespace

// A response that is scored beside others: what of it is not kept, and what its passes leave.
struct LocalRewardContext::Tail {
  int common = 0;                   // tokens that are kept
  absl::Span<const int32_t> fresh;  // the others
  std::vector<int32_t> ids;         // that have to be run
  KvCache cache;
  torch::Tensor hidden;  // [fresh, H], of a likelihood: row i predicted fresh token i
  double reward = 0;
};

LocalRewardContext::LocalRewardContext(std::shared_ptr<ModelRunner> runner, RewardKind kind, torch::Tensor score_weight,
                                       Surroundings surroundings, int max_response_tokens, const StopToken* stop)
    : runner_(std::move(runner)),
      model_(runner_->model()),
      kind_(kind),
      score_weight_(std::move(score_weight)),
      before_(std::move(surroundings.before)),
      after_(kind == RewardKind::kLikelihood ? std::vector<int32_t>() : std::move(surroundings.after)),
      max_response_tokens_(max_response_tokens),
      stop_(stop),
      cache_(runner_->kv_pool()),
      hidden_(torch::empty({max_response_tokens + 1, model_->config().hidden_size},
                           torch::TensorOptions(model_->dtype()).device(model_->device()))) {}

int64_t LocalRewardContext::MostTokens(const Surroundings& surroundings, int max_response_tokens) {
  // Of the response kept last, and of what is scored beside it.
  const int64_t one = max_response_tokens + static_cast<int64_t>(surroundings.after.size());
  return static_cast<int64_t>(surroundings.before.size()) + 2 * one + kSparePositions;
}

// By itself and through the products that the gradient passes behind it use. Gradients of a judge can be so
// ill-conditioned that they show the rounding of a prefix made otherwise: 2e-4 and more of a gradient that agrees with
// Hugging Face's to 2e-5 this way. Others' steps go on between the chunks.
absl::Status LocalRewardContext::Prefill() {
  for (absl::Span<const int32_t> rest = before_; !rest.empty(); rest.remove_prefix(std::min(rest.size(), kChunk))) {
    NABLA_RETURN_IF_ERROR(RunAlone([this, chunk = rest.subspan(0, kChunk)]() -> absl::Status {
      const torch::InferenceMode inference;
      if (stop_ != nullptr) NABLA_RETURN_IF_ERROR(stop_->Check());
      NABLA_RETURN_IF_ERROR(cache_.Prepare(static_cast<int64_t>(chunk.size())));
      hidden_[0].copy_(model_->body().ExtendAsForward({&cache_, chunk})[-1]);
      ++work_.forward_passes;
      work_.forward_tokens += static_cast<int64_t>(chunk.size());
      return absl::OkStatus();
    }));
  }
  return absl::OkStatus();
}

absl::Status LocalRewardContext::ExpectGradients() {
  if (!model_->body().can_record() || runner_->activations() == nullptr) return absl::OkStatus();
  return Record(max_response_tokens_ + static_cast<int64_t>(after_.size()), runner_->activations());
}

absl::StatusOr<double> LocalRewardContext::Score(absl::Span<const int32_t> response) {
  NABLA_RETURN_IF_ERROR(Keep(response, after_));
  return kind_ == RewardKind::kLikelihood ? std::accumulate(log_probs_.begin(), log_probs_.end(), 0.0) : score_;
}

absl::StatusOr<std::vector<double>> LocalRewardContext::ScoreAll(
    absl::Span<const absl::Span<const int32_t>> responses) {
  if (responses.empty()) return std::vector<double>();
  std::vector<size_t> order(responses.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::lexicographical_compare(responses[a].begin(), responses[a].end(), responses[b].begin(),
                                        responses[b].end());
  });
  // What all begin with is run once, and stays for those to come.
  const int64_t common = CommonLength(responses[order.front()], responses[order.back()]);
  const absl::Span<const int32_t> beginning = responses[order.front()].subspan(0, common);
  if (CommonPrefix(beginning) < common) NABLA_RETURN_IF_ERROR(Keep(beginning, {}));
  // In turn, each shares with the one before what it begins with; together, only with what is kept.
  int64_t shared_in_turn = 0, shared_together = 0;
  absl::Span<const int32_t> before = kept_;
  for (const size_t i : order) {
    shared_in_turn += CommonLength(responses[i], std::exchange(before, responses[i]));
    shared_together += CommonLength(responses[i], kept_);
  }
  std::vector<double> rewards(responses.size());
  const bool together = shared_in_turn - shared_together <= kRowsOfAPass * static_cast<int64_t>(responses.size());
  for (size_t begin = 0; begin < order.size();) {
    if (!together) {
      NABLA_ASSIGN_OR_RETURN(rewards[order[begin]], Score(responses[order[begin]]));
      ++begin;
      continue;
    }
    // As many as keep to the memory that the request was promised.
    std::vector<Tail> tails;
    int64_t room = max_response_tokens_ + kSparePositions;
    do {
      Tail tail = TailOf(responses[order[begin + tails.size()]]);
      room -= static_cast<int64_t>(tail.ids.size()) + (tail.ids.empty() ? 0 : 2 * kBlockTokens);
      if (room < 0 && !tails.empty()) break;
      tails.push_back(std::move(tail));
    } while (begin + tails.size() < order.size());
    NABLA_RETURN_IF_ERROR(GuardTorch([&] { return ScoreTogether(absl::MakeSpan(tails)); }));
    for (const Tail& tail : tails) rewards[order[begin++]] = tail.reward;
  }
  return rewards;
}

LocalRewardContext::Tail LocalRewardContext::TailOf(absl::Span<const int32_t> response) const {
  const int common = CommonPrefix(response);
  Tail tail{.common = common, .fresh = response.subspan(common), .ids = {}, .cache = cache_.Fork(before() + common)};
  tail.ids.assign(tail.fresh.begin(), tail.fresh.end());
  tail.ids.insert(tail.ids.end(), after_.begin(), after_.end());
  if (kind_ == RewardKind::kLikelihood && !tail.ids.empty()) tail.ids.pop_back();  // nobody asks what comes behind it
  return tail;
}

// What Score would say of each, to the bit where rows of a pass do not depend on each other; what is kept stays.
absl::Status LocalRewardContext::ScoreTogether(absl::Span<Tail> tails) {
  const bool likelihood = kind_ == RewardKind::kLikelihood;
  std::deque<ExtendJob> jobs;
  std::vector<SequenceJob*> running;
  for (Tail& tail : tails) {
    if (likelihood && !tail.fresh.empty()) {
      tail.hidden = torch::empty({static_cast<int64_t>(tail.fresh.size()), hidden_.size(1)}, hidden_.options());
      tail.hidden[0].copy_(hidden_[tail.common]);
    }
    if (tail.ids.empty()) {
      NABLA_RETURN_IF_ERROR(runner_->Compute([&] { tail.reward = ScoreOf(hidden_[tail.common]); }));
      continue;
    }
    const auto wanted = likelihood ? ExtendJob::Hidden::kAll : ExtendJob::Hidden::kLast;
    jobs.emplace_back(&tail.cache, /*record=*/nullptr, stop_, tail.ids, wanted, &work_,
                      [&](const torch::Tensor& hidden, int64_t begin) {
                        if (likelihood) {
                          tail.hidden.narrow(0, begin + 1, hidden.size(0)).copy_(hidden);
                        } else if (begin + hidden.size(0) == static_cast<int64_t>(tail.ids.size())) {
                          tail.reward = ScoreOf(hidden[-1]);
                        }
                        return absl::OkStatus();
                      });
    running.push_back(&jobs.back());
  }
  if (!running.empty()) NABLA_RETURN_IF_ERROR(runner_->Run(running));
  if (!likelihood) return absl::OkStatus();
  std::vector<torch::Tensor> hidden;
  std::vector<int32_t> tokens;
  for (const Tail& tail : tails) {
    if (!tail.fresh.empty()) hidden.push_back(tail.hidden);
    tokens.insert(tokens.end(), tail.fresh.begin(), tail.fresh.end());
  }
  std::vector<double> log_probs;
  if (!tokens.empty()) {
    NABLA_RETURN_IF_ERROR(runner_->Compute([&] {
      log_probs = ComputeTokenLikelihood(*model_, torch::cat(hidden), tokens, /*with_gradient=*/false).log_probs;
    }));
  }
  auto next = log_probs.cbegin();
  for (Tail& tail : tails) {
    const auto end = next + static_cast<std::ptrdiff_t>(tail.fresh.size());
    tail.reward = std::accumulate(log_probs_.begin(), log_probs_.begin() + tail.common, 0.0);
    tail.reward = std::accumulate(std::exchange(next, end), end, tail.reward);
  }
  return absl::OkStatus();
}

absl::StatusOr<RewardGradient> LocalRewardContext::ScoreGradient(absl::Span<const int32_t> response, int first,
                                                                 bool scored) {
  scored = scored && model_->body().can_record();
  // Where nothing is recorded, what scoring leaves if it has still to be done, for as long as this takes.
  const bool for_now = scored && record_ == nullptr;
  const auto forget = absl::MakeCleanup([&] {
    if (for_now) record_.reset();
  });
  if (scored) {
    if (for_now) NABLA_RETURN_IF_ERROR(Record(static_cast<int64_t>(response.size() + after_.size()), nullptr));
    NABLA_RETURN_IF_ERROR(Keep(response, after_));
  } else if (first > CommonPrefix(response)) {
    NABLA_RETURN_IF_ERROR(Keep(response.subspan(0, first), {}));
  }
  RewardGradient result;
  NABLA_RETURN_IF_ERROR(RunAlone([&]() -> absl::Status {
    if (stop_ != nullptr) NABLA_RETURN_IF_ERROR(stop_->Check());
    result = kind_ == RewardKind::kLikelihood ? LikelihoodGradient(response, first, scored)
                                              : ScoreHeadGradient(response, first, scored);
    return absl::OkStatus();
  }));
  return result;
}

absl::Status LocalRewardContext::Record(int64_t rows, std::shared_ptr<MemoryBudget> budget) {
  return GuardTorch([&] {
    record_ = std::make_unique<RecordedRows>(model_->body().weights(), before(), rows, std::move(budget));
    return absl::OkStatus();
  });
}

absl::Status LocalRewardContext::RunAlone(const std::function<absl::Status()>& work) {
  return runner_->batcher().RunAlone([&work] { return GuardTorch(work); });
}

int LocalRewardContext::CommonPrefix(absl::Span<const int32_t> response) const {
  return static_cast<int>(CommonLength(response, kept_));
}

// Makes the cache hold exactly `response` and `after`.
absl::Status LocalRewardContext::Keep(absl::Span<const int32_t> response, absl::Span<const int32_t> after) {
  const int common = CommonPrefix(response);
  const absl::Span<const int32_t> fresh = response.subspan(common);
  if (fresh.empty() && kept_.size() == response.size() && kept_after_ == after.size()) return absl::OkStatus();
  Forget(common);
  std::vector<int32_t> ids(fresh.begin(), fresh.end());
  ids.insert(ids.end(), after.begin(), after.end());
  const auto take = [&](const torch::Tensor& hidden, int64_t begin) {
    const int64_t count = std::min(hidden.size(0), static_cast<int64_t>(fresh.size()) - begin);
    if (count > 0) {
      hidden_.narrow(0, common + begin + 1, count).copy_(hidden.narrow(0, 0, count));
      if (kind_ == RewardKind::kLikelihood) AddLogProbs(fresh.subspan(begin, count), common + begin);
    }
    const bool at_end = begin + hidden.size(0) == static_cast<int64_t>(ids.size());
    if (at_end && after.size() == after_.size()) score_ = ScoreOf(hidden[-1]);
    return absl::OkStatus();
  };
  ExtendJob job(&cache_, record_.get(), stop_, ids, ExtendJob::Hidden::kAll, &work_, take);
  absl::Status status = ids.empty() ? runner_->Compute([&] { score_ = ScoreOf(hidden_[common]); }) : runner_->Run(job);
  if (!status.ok()) {
    Forget(common);
    return status;
  }
  kept_.assign(response.begin(), response.end());
  kept_after_ = after.size();
  return absl::OkStatus();
}

// Of response tokens [first, first + tokens.size()), whose hidden states are there.
void LocalRewardContext::AddLogProbs(absl::Span<const int32_t> tokens, int64_t first) {
  const TokenLikelihood likelihood = ComputeTokenLikelihood(
      *model_, hidden_.narrow(0, first, static_cast<int64_t>(tokens.size())), tokens, /*with_gradient=*/false);
  log_probs_.insert(log_probs_.end(), likelihood.log_probs.begin(), likelihood.log_probs.end());
}

// Keeps the first `count` tokens only.
void LocalRewardContext::Forget(int count) {
  kept_.resize(count);
  kept_after_.reset();
  cache_.Truncate(before() + count);
  if (kind_ == RewardKind::kLikelihood) log_probs_.resize(count);
}

// What the score head makes of a hidden state [H]; 0 without one.
double LocalRewardContext::ScoreOf(const torch::Tensor& hidden) const {
  if (!score_weight_.defined()) return 0;
  return torch::matmul(hidden.to(torch::kFloat32), score_weight_).item<double>();
}

// Through tokens [first, ids.size()) of those behind the conversation's beginning, where `ids` are: as they were run
// when they were `scored`, without hidden states, else run once more.
Transformer::Pass LocalRewardContext::PassThrough(absl::Span<const int32_t> ids, int first, bool scored) {
  const int64_t count = static_cast<int64_t>(ids.size()) - first;
  const Transformer& body = model_->body();
  ++work_.backward_passes;
  work_.backward_tokens += count;
  if (!scored || !record_->Holds(ids)) {
    ++work_.forward_passes;
    work_.forward_tokens += count;
  }
  if (scored) return {.hidden = {}, .backward = body.Derivative(ids, first, cache_, *record_)};
  return body.Forward(body.Embed(ids.subspan(first)), cache_, before() + first);
}

RewardGradient LocalRewardContext::ScoreHeadGradient(absl::Span<const int32_t> response, int first, bool scored) {
  std::vector<int32_t> ids(response.begin(), response.end());
  ids.insert(ids.end(), after_.begin(), after_.end());
  const Transformer::Pass pass = PassThrough(ids, first, scored);
  RewardGradient result;
  result.reward = scored ? score_ : ScoreOf(pass.hidden[-1]);
  const torch::Tensor at_last = score_weight_.view({1, -1}).to(hidden_.options());
  SetInputGradient(pass.backward(at_last), static_cast<int>(response.size()) - first, result);
  return result;
}

RewardGradient LocalRewardContext::LikelihoodGradient(absl::Span<const int32_t> response, int first, bool scored) {
  const int rows = static_cast<int>(response.size()) - first;
  RewardGradient result;
  // Of every row that predicts an ahead token.
  torch::Tensor hidden = hidden_.narrow(0, first, scored ? rows : 1).clone();
  torch::Tensor gradient = torch::zeros({1, hidden.size(1)});  // the last token is a target only
  result.reward = std::accumulate(log_probs_.begin(), scored ? log_probs_.end() : log_probs_.begin() + first, 0.0);
  const auto add_log_probs = [&](const TokenLikelihood& likelihood) {
    result.reward = std::accumulate(likelihood.log_probs.begin(), likelihood.log_probs.end(), result.reward);
  };
  if (!scored) add_log_probs(ComputeTokenLikelihood(*model_, hidden, response.subspan(first, 1), false));
  if (rows > 1) {
    const Transformer::Pass pass = PassThrough(response.first(response.size() - 1), first, scored);
    if (!scored) hidden = torch::cat({hidden, pass.hidden});
    const TokenLikelihood likelihood =
        ComputeTokenLikelihood(*model_, hidden.narrow(0, 1, rows - 1), response.subspan(first + 1), true);
    if (!scored) add_log_probs(likelihood);
    gradient = torch::cat({pass.backward(likelihood.hidden_gradient).to(torch::kCPU, torch::kFloat32), gradient});
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

}  // namespace nabla
