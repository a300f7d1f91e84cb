#include "engine/refine/prefix_policy.h"

#include <torch/torch.h>

#include "engine/base/status_macros.h"
#include "engine/decode/session_state.h"
#include "engine/refine/optimizer.h"

namespace nabla {

struct PrefixPolicy::State {
  const SessionState& session;
  torch::Tensor hidden;  // float32 [rows, H]
  RefinementOptions options;
  Optimizer optimizer{options};

  torch::Tensor Logits() const { return session.model->Head(hidden.to(session.model->dtype())); }
};

PrefixPolicy::PrefixPolicy(const Session& session, int rows, double learning_rate)
    : state_(new State{.session = session.state(),
                       .hidden = session.state().hidden.narrow(0, 0, rows).to(torch::kFloat32, false, /*copy=*/true),
                       // The step does not decay: how many there will be is not known.
                       .options = {.iterations = 1, .learning_rate = learning_rate, .min_learning_rate_ratio = 1}}) {}
PrefixPolicy::~PrefixPolicy() = default;

absl::StatusOr<std::vector<int32_t>> PrefixPolicy::Draw(Session& session, const SamplingOptions& sampling) {
  torch::Tensor logits;
  NABLA_RETURN_IF_ERROR(
      state_->session.runner->Compute([&] { logits = state_->Logits().to(torch::kCPU).contiguous(); }));
  std::vector<int32_t> tokens;
  const auto vocabulary = static_cast<size_t>(logits.size(1));
  for (int64_t row = 0; row < logits.size(0); ++row) {
    tokens.push_back(session.Sample({logits.data_ptr<float>() + row * vocabulary, vocabulary}, sampling));
    if (state_->session.model->IsEndOfSequence(tokens.back())) break;
  }
  return tokens;
}

absl::StatusOr<double> PrefixPolicy::Reinforce(absl::Span<const int32_t> tokens, double advantage) {
  double norm = 0;
  NABLA_RETURN_IF_ERROR(state_->session.runner->Compute([&] {
    const Model& model = *state_->session.model;
    const auto rows = static_cast<int64_t>(tokens.size());
    const torch::Tensor index =
        torch::tensor(std::vector<int64_t>(tokens.begin(), tokens.end())).unsqueeze(1).to(state_->hidden.device());
    // ∂ −advantage · Σ log p[y] / ∂logits = advantage · (p − onehot(y)).
    torch::Tensor logits_gradient = torch::softmax(state_->Logits().narrow(0, 0, rows), -1);
    logits_gradient.scatter_add_(1, index, torch::full({rows, 1}, -1.0, logits_gradient.options()));
    torch::Tensor gradient = torch::zeros_like(state_->hidden);
    gradient.narrow(0, 0, rows)
        .copy_(torch::matmul(logits_gradient.to(model.dtype()), model.head_weight()).to(torch::kFloat32) * advantage);
    norm = gradient.norm().item<double>();
    state_->optimizer.Step(state_->hidden, gradient);
  }));
  return norm;
}

}  // namespace nabla
