#include "engine/refine/gradient_field.h"

#include <algorithm>
#include <future>

#include "engine/base/status_macros.h"
#include "engine/model/device.h"
#include "engine/model/likelihood.h"

namespace nabla {

absl::StatusOr<GradientField> GradientField::Compute(const SessionState& state, ResponseScorer& scorer,
                                                     const RefinementOptions& options,
                                                     absl::Span<const int32_t> response, int first) {
  GradientField field;
  field.runner_ = state.runner;
  field.scorer_ = &scorer;
  field.likelihood_weight_ = options.likelihood_weight;
  field.reward_weight_ = options.reward_weight;
  field.response_.assign(response.begin(), response.end());
  field.first_ = first;
  const auto reward_part = [&] { return scorer.ScoreGradient(response, first); };
  std::future<absl::StatusOr<RewardGradient>> meanwhile;
  if (options.likelihood_weight != 0 && options.reward_weight != 0 && scorer.remote()) {
    // Deferred, that is computed behind, where the system has no thread left.
    meanwhile = std::async(std::launch::async | std::launch::deferred, reward_part);
  }
  if (options.likelihood_weight != 0) {
    NABLA_RETURN_IF_ERROR(state.runner->batcher().RunAlone(
        [&] { return GuardTorch([&] { return field.ComputeLikelihoodPart(state); }); }));
  }
  if (options.reward_weight != 0) {
    NABLA_ASSIGN_OR_RETURN(field.reward_gradient_, meanwhile.valid() ? meanwhile.get() : reward_part());
  }
  ++state.usage->gradient_steps_computed;
  return field;
}

absl::Status GradientField::ComputeLikelihoodPart(const SessionState& state) {
  NABLA_RETURN_IF_ERROR(state.stop->Check());
  const absl::Span<const int32_t> ahead = absl::MakeConstSpan(response_).subspan(first_);
  // The last token is a target only; the first row's hidden state belongs to the constant prefix.
  const bool rolled_out = state.record != nullptr && response_ == state.response;
  hidden_ = state.hidden.narrow(0, first_, rolled_out ? rows() : 1).clone();
  input_gradient_ = torch::zeros({rows(), hidden_.size(1)}, hidden_.options().dtype(torch::kFloat32));
  const int64_t inputs_count = rows() - 1;
  if (inputs_count == 0) return absl::OkStatus();
  ModelWork& work = state.usage->language_model;
  const Transformer& body = state.model->body();
  Transformer::Pass pass;
  const absl::Span<const int32_t> run = absl::MakeConstSpan(response_).first(response_.size() - 1);
  if (!rolled_out || !state.record->Holds(run)) {
    ++work.forward_passes;
    work.forward_tokens += inputs_count;
  }
  if (rolled_out) {
    pass = {.hidden = hidden_.narrow(0, 1, inputs_count),
            .backward = body.Derivative(run, first_, state.cache, *state.record)};
  } else {
    pass = body.Forward(body.Embed(ahead.subspan(0, inputs_count)), state.cache, state.prompt_tokens() + first_);
    hidden_ = torch::cat({hidden_, pass.hidden});
  }
  const TokenLikelihood likelihood = ComputeTokenLikelihood(*state.model, pass.hidden, ahead.subspan(1), true);
  input_gradient_.narrow(0, 0, inputs_count).copy_(pass.backward(likelihood.hidden_gradient));
  ++work.backward_passes;
  work.backward_tokens += inputs_count;
  return absl::OkStatus();
}

absl::StatusOr<torch::Tensor> GradientField::Rows(int64_t begin, int64_t end) const {
  std::vector<float> reward;
  if (reward_weight_ != 0) {
    NABLA_ASSIGN_OR_RETURN(reward,
                           scorer_->OneHotGradient(reward_gradient_, static_cast<int>(begin), static_cast<int>(end)));
  }
  torch::Tensor rows;
  NABLA_RETURN_IF_ERROR(runner_->Compute([&] {
    const Model& model = *runner_->model();
    const int64_t count = end - begin;
    rows = torch::zeros({count, model.vocabulary_size()}, torch::TensorOptions(torch::kFloat32).device(model.device()));
    if (likelihood_weight_ != 0) {
      rows.sub_(LogProbs(model, hidden_, begin, end), likelihood_weight_);
      rows.sub_(model.ProjectToVocabulary(input_gradient_.narrow(0, begin, count)), likelihood_weight_);
    }
    if (reward_weight_ != 0) {
      rows.sub_(torch::from_blob(reward.data(), rows.sizes(), torch::kFloat32).to(model.device()), reward_weight_);
    }
  }));
  return rows;
}

absl::StatusOr<std::vector<double>> GradientField::Norms() const {
  std::vector<double> norms;
  for (int64_t begin = 0; begin < rows(); begin += kVocabularyBlockRows) {
    NABLA_ASSIGN_OR_RETURN(const torch::Tensor block, Rows(begin, std::min(rows(), begin + kVocabularyBlockRows)));
    NABLA_RETURN_IF_ERROR(runner_->batcher().RunAlone([&] {
      return GuardTorch([&] {
        const torch::Tensor block_norms = block.norm(2, -1).to(torch::kCPU, torch::kFloat64).contiguous();
        norms.insert(norms.end(), block_norms.data_ptr<double>(), block_norms.data_ptr<double>() + block_norms.numel());
        return absl::OkStatus();
      });
    }));
  }
  return norms;
}

}  // namespace nabla
