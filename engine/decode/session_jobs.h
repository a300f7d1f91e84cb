// What a Session has run through its model: the prompt by itself, and a rollout. Private to engine/decode. Includes
// torch.
#ifndef NABLA_ENGINE_DECODE_SESSION_JOBS_H_
#define NABLA_ENGINE_DECODE_SESSION_JOBS_H_

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "engine/base/request.h"
#include "engine/decode/drafter.h"
#include "engine/decode/model_runner.h"
#include "engine/decode/sampler.h"
#include "engine/decode/session.h"
#include "engine/decode/session_state.h"

namespace nabla {

// Runs the prompt up to its last token, whose turn it is when somebody wants to know what follows.
class Session::PromptJob : public SequenceJob {
 public:
  explicit PromptJob(SessionState* state) : SequenceJob(&state->cache, state->stop), state_(*state) {}

  absl::Span<const int32_t> pending() const override;
  int64_t HiddenWanted(int64_t /*rows*/) const override { return 0; }
  void OnHidden(const torch::Tensor& hidden, int64_t rows_run) override;

 private:
  SessionState& state_;
};

// When a rollout ends ahead of its response's own end.
struct RolloutLimits {
  std::optional<int64_t> max_model_calls;  // of the request
  std::string separator;                   // text that ends a step; empty: none
};

// Runs what the cache lacks of prompt and response, then appends tokens until the response is finished: one a pass, or
// several where the rollout set aside or a draft model foretells them. What it is given outlives it.
class Session::RolloutJob : public SequenceJob {
 public:
  RolloutJob(Session* session, const SamplingOptions& sampling, Stream stream, const RolloutLimits& limits);

  absl::Span<const int32_t> pending() const override;
  bool WantsDraft() const override { return step_.empty() && CanDraft(); }
  bool OnDraftLogits(absl::Span<const float> logits) override;
  int64_t DraftTokens() const override { return by_model_ ? static_cast<int64_t>(step_.size()) - 1 : 0; }
  RecordedRows* record() override { return session_.state_->record.get(); }
  int64_t HiddenWanted(int64_t rows) const override;
  void OnHidden(const torch::Tensor& hidden, int64_t rows_run) override;
  int64_t LogitsWanted(int64_t rows_run) override;
  bool OnLogits(absl::Span<const float> logits) override;

 private:
  void BeginStep();
  void EndStep();
  bool CanDraft() const;
  size_t DraftRoom() const;
  bool AtLimit() const;

  Session& session_;
  const SamplingOptions& sampling_;
  const Stream stream_;
  const RolloutLimits& limits_;
  std::optional<Drafter> drafter_;
  bool by_model_ = false;            // whose guesses step_ holds: the draft model's, or those of the earlier rollout
  size_t draft_length_ = 8;          // of the draft model's next
  RandomSource random_{0};           // a copy of the session's, drawn from ahead of it
  std::vector<int32_t> step_;        // the last token and what may follow it; empty without a draft
  int64_t rows_ = 0, verified_ = 0;  // of step_: run, and looked at
};

}  // namespace nabla

#endif  // NABLA_ENGINE_DECODE_SESSION_JOBS_H_
