#include "engine/decode/model_runner.h"

#include <utility>
#include <vector>

#include "engine/model/device.h"

namespace nabla {

absl::Status ModelRunner::RunPass(absl::Span<const BatchShare> shares) {
  return GuardTorch([&] { return RunSlices(shares); });
}

absl::Status ModelRunner::RunSlices(absl::Span<const BatchShare> shares) {
  const torch::InferenceMode inference;
  std::vector<SequenceJob*> jobs;
  std::vector<Slice> slices;
  for (const BatchShare& share : shares) {
    auto* job = static_cast<SequenceJob*>(share.job);  // Run takes no other kind
    job->status = job->cache().Prepare(share.rows);
    if (!job->status.ok()) continue;
    jobs.push_back(job);
    slices.push_back({&job->cache(), job->pending().subspan(0, share.rows)});
  }
  if (jobs.empty()) return absl::OkStatus();
  const torch::Tensor hidden = model_->body().Extend(slices);

  std::vector<std::pair<SequenceJob*, int64_t>> decoding;  // with how many rows of logits
  std::vector<int64_t> wanted_rows;
  int64_t begin = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const int64_t rows = static_cast<int64_t>(slices[i].ids.size());
    jobs[i]->OnHidden(hidden.narrow(0, begin, rows));
    begin += rows;
    const int64_t wanted = jobs[i]->LogitsWanted(rows);
    if (wanted == 0) {
      jobs[i]->done = jobs[i]->pending().empty();
      continue;
    }
    decoding.emplace_back(jobs[i], wanted);
    for (int64_t row = begin - wanted; row < begin; ++row) wanted_rows.push_back(row);
  }
  if (decoding.empty()) return absl::OkStatus();
  const bool all = static_cast<int64_t>(wanted_rows.size()) == hidden.size(0);
  const torch::Tensor chosen = all ? hidden : hidden.index_select(0, torch::tensor(wanted_rows).to(hidden.device()));
  const torch::Tensor logits = model_->Head(chosen).to(torch::kCPU).contiguous();
  const size_t vocabulary = static_cast<size_t>(logits.size(1));
  const float* next = logits.data_ptr<float>();
  for (const auto& [job, wanted] : decoding) {
    for (int64_t i = 0; i < wanted && job->OnLogits({next + i * vocabulary, vocabulary}); ++i) {
    }
    next += wanted * vocabulary;
  }
  return absl::OkStatus();
}

}  // namespace nabla
