#include "engine/decode/session_jobs.h"

#include <algorithm>

namespace nabla {
namespace {

// An earlier rollout's guesses cost nothing, but are to be this many before they are preferred to a draft model's.
constexpr size_t kTrustedTokens = 4;

}  // namespace

absl::Span<const int32_t> Session::PromptJob::pending() const {
  const absl::Span<const int32_t> prompt = state_.options.prompt_ids;
  return prompt.first(prompt.size() - 1).subspan(state_.cache.length());
}

void Session::PromptJob::OnHidden(const torch::Tensor& /*hidden*/, int64_t rows_run) {
  ++state_.work().forward_passes;
  state_.work().forward_tokens += rows_run;
}

Session::RolloutJob::RolloutJob(Session* session, const SamplingOptions& sampling, Stream stream,
                                const RolloutLimits& limits)
    : SequenceJob(&session->state_->cache, session->state_->stop),
      session_(*session),
      sampling_(sampling),
      stream_(stream),
      limits_(limits) {
  const SessionState& s = *session_.state_;
  if (s.aside && s.options.max_draft_tokens > 0) {
    drafter_.emplace(s.aside->response, s.response.size(), s.options.max_draft_tokens);
  }
  BeginStep();
}

absl::Span<const int32_t> Session::RolloutJob::pending() const {
  const SessionState& s = *session_.state_;
  const int64_t held = s.cache.length(), prompt = s.prompt_tokens();
  if (held < prompt) return absl::MakeConstSpan(s.options.prompt_ids).subspan(held);
  if (!step_.empty()) return step_;
  return absl::MakeConstSpan(s.response).subspan(held - prompt);
}

// The guess is drawn as the token will be, with the same random number: like logits mostly give the same token.
bool Session::RolloutJob::OnDraftLogits(absl::Span<const float> logits) {
  const SessionState& s = *session_.state_;
  if (!by_model_) {
    by_model_ = true;
    step_.assign(1, s.response.back());
    random_ = s.random;
  }
  ++s.usage->draft_model.forward_passes;
  ++s.usage->draft_model.forward_tokens;
  step_.push_back(SampleToken(logits, sampling_, random_));
  if (sampling_.temperature == 0 && !IsClearGuess(logits, step_.back())) return false;
  return step_.size() <= std::min(draft_length_, DraftRoom()) && !s.model->IsEndOfSequence(step_.back());
}

// The state behind token p predicts token p + 1; those inside the prompt predict nothing that is asked for.
int64_t Session::RolloutJob::HiddenWanted(int64_t rows) const {
  const SessionState& s = *session_.state_;
  return std::clamp<int64_t>(s.cache.length() + rows + 1 - s.prompt_tokens(), 0, rows);
}

void Session::RolloutJob::OnHidden(const torch::Tensor& hidden, int64_t rows_run) {
  SessionState& s = *session_.state_;
  ++s.work().forward_passes;
  s.work().forward_tokens += rows_run;
  const int64_t end = s.cache.length() + 1 - s.prompt_tokens();  // of the kept
  if (end <= 0) return;
  if (s.options.keep_hidden) s.KeepHidden(hidden, end - hidden.size(0));
  if (end <= rows_run) s.cache.Publish(s.options.prompt_ids);
}

int64_t Session::RolloutJob::LogitsWanted(int64_t rows_run) {
  if (step_.empty()) return pending().empty() ? 1 : 0;
  rows_ = rows_run;  // of a draft, as many as there was room for
  return rows_;
}

bool Session::RolloutJob::OnLogits(absl::Span<const float> logits) {
  session_.Append(logits, sampling_, stream_);
  done = session_.finished() || AtLimit();
  ++verified_;
  const bool go_on = !done && verified_ < rows_ && session_.state_->response.back() == step_[verified_];
  if (!go_on) EndStep();
  return go_on;
}

bool Session::RolloutJob::AtLimit() const {
  if (limits_.max_model_calls && session_.usage().model_calls >= *limits_.max_model_calls) return true;
  return !limits_.separator.empty() && session_.EndsWith({limits_.separator});
}

void Session::RolloutJob::BeginStep() {
  const SessionState& s = *session_.state_;
  step_.clear();
  by_model_ = false;
  rows_ = verified_ = 0;
  if (!drafter_ || !CanDraft()) return;
  const absl::Span<const int32_t> draft = drafter_->Next(s.response, DraftRoom());
  if (draft.empty() || (s.runner->drafts() && draft.size() < kTrustedTokens)) return;
  step_.push_back(s.response.back());
  step_.insert(step_.end(), draft.begin(), draft.end());
}

// Only the last token may be missing from the cache.
bool Session::RolloutJob::CanDraft() const {
  const SessionState& s = *session_.state_;
  const int64_t known = s.prompt_tokens() + static_cast<int64_t>(s.response.size());
  return !done && !s.response.empty() && s.cache.length() + 1 == known && DraftRoom() > 0;
}

// As many as are still to come but the one that a pass brings in any case.
size_t Session::RolloutJob::DraftRoom() const {
  const SessionState& s = *session_.state_;
  return std::min<size_t>(s.options.max_new_tokens - s.response.size() - 1, s.options.max_draft_tokens);
}

// Forgets the keys and values of draft tokens that were not drawn.
void Session::RolloutJob::EndStep() {
  SessionState& s = *session_.state_;
  if (rows_ > 1) {
    const int64_t drafted = rows_ - 1, accepted = verified_ - 1;
    if (by_model_) {
      const auto most = static_cast<size_t>(s.options.max_draft_tokens);
      if (accepted == drafted) {
        draft_length_ = std::min(2 * draft_length_, most);
      } else if (accepted + 1 < drafted) {  // more than the last was in vain
        draft_length_ = std::max<size_t>(1, draft_length_ / 2);
      }
      s.usage->int8_tokens_accepted += accepted;
      s.usage->int8_tokens_rejected += drafted - accepted;
    }
    s.usage->draft_tokens_accepted += accepted;
    s.usage->draft_tokens_rejected += drafted - accepted;
    s.cache.Truncate(s.prompt_tokens() + static_cast<int64_t>(s.response.size()) - 1);
  }
  BeginStep();
}

}  // namespace nabla
