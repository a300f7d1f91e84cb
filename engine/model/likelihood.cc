#include "engine/model/likelihood.h"

#include <algorithm>
#include <vector>

#include "engine/kernels/backward.h"
#include "engine/model/cpu_tensors.h"
#include "engine/model/row_parts.h"

namespace nabla {

torch::Tensor LogProbs(const Model& model, const torch::Tensor& hidden, int64_t begin, int64_t end) {
  return torch::log_softmax(model.Head(hidden.narrow(0, begin, end - begin)), -1);
}

namespace {

// Of rows on a CPU, which are divided among the model's threads. Without a gradient, a row's numbers do not depend on
// the others.
void FillLogProbs(const Model& model, const torch::Tensor& hidden, const int32_t* targets, double* log_probs) {
  const torch::Tensor logits = model.Head(hidden);
  const int64_t rows = logits.size(0), vocabulary = logits.size(1);
  ForRowParts(model.team(), rows, RowParts(rows, model.team()), [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* const row = logits.data_ptr<float>() + i * vocabulary;
      log_probs[i] = static_cast<double>(row[targets[i]]) - kernels::LogSumExp(row, vocabulary);
    }
  });
}

void FillGradient(const Model& model, const torch::Tensor& hidden, const int32_t* targets, double* log_probs,
                  const torch::Tensor& gradient) {
  const int64_t rows = hidden.size(0);
  ForRowParts(model.team(), rows, RowParts(rows, model.team()), [&](int64_t, int64_t begin, int64_t end) {
    const torch::Tensor mine = hidden.narrow(0, begin, end - begin).to(torch::kFloat32).contiguous();
    const ProjectionInput input(mine, model.dtype());
    const std::vector<CpuProjection>& heads = model.head_projections();
    const size_t count = heads.size();
    std::vector<torch::Tensor> pieces;  // of the logits, by tokens
    std::vector<float> scratch, sums((end - begin) * count), log_sums;
    int64_t first_token = 0;
    for (size_t p = 0; p < count; ++p) {
      pieces.push_back(heads[p].Forward(input));
      const int64_t tokens = pieces[p].size(1);
      for (int64_t i = begin; i < end; ++i) {
        const float* const row = ReadRow(pieces[p], i - begin, scratch);
        sums[(i - begin) * count + p] = kernels::LogSumExp(row, tokens);
        const int64_t target = targets[i] - first_token;
        if (target >= 0 && target < tokens) log_probs[i] = static_cast<double>(row[target]);
      }
      first_token += tokens;
    }
    for (int64_t i = begin; i < end; ++i) {
      log_sums.push_back(kernels::LogSumExp(&sums[(i - begin) * count], static_cast<int64_t>(count)));
      log_probs[i] -= log_sums.back();
    }
    // ∂ log softmax(W h)[t] / ∂h = (onehot(t) − softmax(W h)) W
    torch::Tensor negative;
    first_token = 0;
    for (size_t p = 0; p < count; ++p) {
      const int64_t tokens = pieces[p].size(1);
      for (int64_t i = begin; i < end; ++i) {
        float* const row = ReadRow(pieces[p], i - begin, scratch);
        kernels::ExpMinus(row, tokens, log_sums[i - begin], row);
        const int64_t target = targets[i] - first_token;
        if (target >= 0 && target < tokens) row[target] -= 1;
        WriteRow(pieces[p], i - begin, row);
      }
      const torch::Tensor share = heads[p].Backward(ProjectionInput(pieces[p], model.dtype()));
      negative = negative.defined() ? negative.add_(share) : share.to(torch::kFloat32);
      first_token += tokens;
    }
    gradient.narrow(0, begin, end - begin).copy_(negative.neg_());
  });
}

}  // namespace

TokenLikelihood ComputeTokenLikelihood(const Model& model, const torch::Tensor& hidden,
                                       absl::Span<const int32_t> targets, bool with_gradient) {
  const torch::InferenceMode inference;
  const int64_t rows = static_cast<int64_t>(targets.size());
  TokenLikelihood result;
  result.log_probs.resize(targets.size());
  if (with_gradient) result.hidden_gradient = torch::empty_like(hidden);
  for (int64_t begin = 0; begin < rows; begin += kVocabularyBlockRows) {
    const int64_t count = std::min(rows - begin, kVocabularyBlockRows);
    const torch::Tensor gradient = with_gradient ? result.hidden_gradient.narrow(0, begin, count) : torch::Tensor();
    if (model.device().is_cpu()) {
      const torch::Tensor block = hidden.narrow(0, begin, count);
      double* const log_probs = result.log_probs.data() + begin;
      with_gradient ? FillGradient(model, block, targets.data() + begin, log_probs, gradient)
                    : FillLogProbs(model, block, targets.data() + begin, log_probs);
      continue;
    }
    const torch::Tensor index =
        torch::from_blob(const_cast<int32_t*>(targets.data()) + begin, {count, 1}, torch::kInt32)
            .to(model.device(), torch::kInt64);
    torch::Tensor log_probs = LogProbs(model, hidden, begin, begin + count);
    const torch::Tensor chosen = log_probs.gather(1, index).to(torch::kCPU, torch::kFloat64).contiguous();
    std::copy_n(chosen.data_ptr<double>(), count, result.log_probs.begin() + begin);
    if (!with_gradient) continue;
    torch::Tensor difference = log_probs.exp_().neg_();
    difference.scatter_add_(1, index, torch::ones_like(index, difference.options()));
    gradient.copy_(torch::matmul(difference.to(model.dtype()), model.head_weight()));
  }
  return result;
}

}  // namespace nabla
