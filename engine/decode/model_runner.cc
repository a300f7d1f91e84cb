#include "engine/decode/model_runner.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/model/device.h"
#include "engine/model/row_parts.h"

namespace nabla {
namespace {

// With more sequences in a pass, the pass itself makes better use of the weights that it reads than guessing does.
constexpr size_t kMostDrafting = 2;

}  // namespace

absl::Status ModelRunner::Compute(const std::function<void()>& work) const {
  return batcher_->RunAlone([&] {
    return GuardTorch([&] {
      const torch::NoGradGuard no_gradient;
      work();
      return absl::OkStatus();
    });
  });
}

void ModelRunner::PrepareGradients() const {
  const CpuGradient* const gradient = model_->body().cpu_gradient();
  if (gradient == nullptr) return;
  std::vector<const CpuProjection*> projections = gradient->projections();
  for (const CpuProjection& piece : model_->head_projections()) projections.push_back(&piece);
  for (const CpuProjection* projection : projections) {
    if (!projection->keeps_copies()) continue;
    batcher_->RunWhenIdle([model = model_, projection] {
      ForRowParts(model->team(), /*rows=*/2, /*parts=*/2, [&](int64_t way, int64_t, int64_t) {
        // An error comes again, and is told, when a gradient needs it.
        GuardTorch([&] {
          way == 0 ? projection->PrepareForward() : projection->PrepareBackward();
          return absl::OkStatus();
        }).IgnoreError();
      });
    });
  }
}

absl::StatusOr<int64_t> ModelRunner::RunPass(absl::Span<const BatchShare> shares) {
  return GuardTorch([&] { return RunSlices(shares); });
}

absl::StatusOr<int64_t> ModelRunner::RunSlices(absl::Span<const BatchShare> shares) {
  const torch::InferenceMode inference;
  if (draft_ != nullptr && shares.size() <= kMostDrafting) Draft(shares);
  std::vector<SequenceJob*> jobs;
  std::vector<Slice> slices;
  for (const BatchShare& share : shares) {
    auto* job = static_cast<SequenceJob*>(share.job);  // Run takes no other kind
    const int64_t rows = share.rows + job->DraftTokens();
    job->status = job->cache().Prepare(rows);
    if (!job->status.ok()) continue;
    jobs.push_back(job);
    slices.push_back({&job->cache(), job->pending().subspan(0, rows), job->record(), job->HiddenWanted(rows)});
  }
  if (jobs.empty()) return 0;
  const torch::Tensor hidden = model_->body().Extend(slices);

  std::vector<std::pair<SequenceJob*, int64_t>> decoding;  // with how many rows of logits
  std::vector<int64_t> wanted_rows;
  int64_t rows_run = 0, end = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const int64_t rows = static_cast<int64_t>(slices[i].ids.size()), hidden_rows = slices[i].hidden_rows();
    jobs[i]->OnHidden(hidden.narrow(0, end, hidden_rows), rows);
    rows_run += rows, end += hidden_rows;
    const int64_t wanted = jobs[i]->LogitsWanted(rows);
    if (wanted == 0) {
      jobs[i]->done = jobs[i]->pending().empty();
      continue;
    }
    decoding.emplace_back(jobs[i], wanted);
    for (int64_t row = end - wanted; row < end; ++row) wanted_rows.push_back(row);
  }
  if (decoding.empty()) return rows_run;
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
  return rows_run;
}

// A token for each job at a time, behind the last one. Keys and values of the draft model do not stay.
void ModelRunner::Draft(absl::Span<const BatchShare> shares) const {
  std::vector<SequenceJob*> jobs;
  std::vector<std::pair<KvCache*, int64_t>> lengths;
  for (const BatchShare& share : shares) {
    auto* job = static_cast<SequenceJob*>(share.job);
    if (!job->WantsDraft()) continue;
    jobs.push_back(job);
    lengths.emplace_back(&job->cache(), job->cache().length());
  }
  while (true) {
    const auto no_room = [](SequenceJob* job) { return !job->cache().Prepare(1).ok(); };
    jobs.erase(std::remove_if(jobs.begin(), jobs.end(), no_room), jobs.end());
    if (jobs.empty()) break;
    std::vector<Slice> slices;
    for (SequenceJob* job : jobs) slices.push_back({&job->cache(), job->pending().last(1)});
    const torch::Tensor logits = draft_->Head(draft_->Extend(slices));
    const float* row = logits.data_ptr<float>();
    const auto vocabulary = static_cast<size_t>(logits.size(1));
    const auto wants_no_more = [&](SequenceJob* job) {
      return !job->OnDraftLogits({std::exchange(row, row + vocabulary), vocabulary});
    };
    jobs.erase(std::remove_if(jobs.begin(), jobs.end(), wants_no_more), jobs.end());
  }
  for (const auto& [cache, length] : lengths) cache->Truncate(length);
}

}  // namespace nabla
