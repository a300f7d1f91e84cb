#include "engine/decode/session.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/decode/drafter.h"
#include "engine/decode/session_state.h"
#include "engine/kernels/elementwise.h"
#include "engine/model/device.h"

namespace nabla {
namespace {

constexpr absl::Duration kDraftInterval = absl::Milliseconds(15);  // drafts are whole tails: no eye needs more of them

// Puts rows into `to` from row `begin` on.
void CopyRows(const torch::Tensor& rows, const torch::Tensor& to, int64_t begin) {
  if (to.is_cpu() && rows.is_contiguous()) {  // many times a step: torch's own copy costs more than the copying
    const size_t row_bytes = static_cast<size_t>(to.size(1) * to.element_size());
    std::memcpy(static_cast<char*>(to.data_ptr()) + begin * row_bytes, rows.data_ptr(), rows.size(0) * row_bytes);
  } else {
    to.narrow(0, begin, rows.size(0)).copy_(rows);
  }
}

class SilentSink : public EventSink {
 public:
  void OnEvent(Event /*event*/) override {}
};

}  // namespace

// Runs the prompt up to its last token, whose turn it is when somebody wants to know what follows.
class Session::PromptJob : public SequenceJob {
 public:
  explicit PromptJob(SessionState* state) : SequenceJob(&state->cache, state->stop), state_(*state) {}

  absl::Span<const int32_t> pending() const override {
    const absl::Span<const int32_t> prompt = state_.options.prompt_ids;
    return prompt.first(prompt.size() - 1).subspan(state_.cache.length());
  }

  void OnHidden(const torch::Tensor& hidden) override {
    ++state_.usage->language_model.forward_passes;
    state_.usage->language_model.forward_tokens += hidden.size(0);
  }

 private:
  SessionState& state_;
};

// An earlier rollout's guesses cost nothing, but are to be this many before they are preferred to a draft model's.
constexpr size_t kTrustedTokens = 4;

// Runs what the cache lacks of prompt and response, then appends tokens until the response is finished: one a pass, or
// several where the rollout set aside or a draft model foretells them.
class Session::RolloutJob : public SequenceJob {
 public:
  RolloutJob(Session* session, const SamplingOptions& sampling, Stream stream,
             std::optional<int64_t> max_model_calls = std::nullopt)
      : SequenceJob(&session->state_->cache, session->state_->stop),
        session_(*session),
        sampling_(sampling),
        stream_(stream),
        max_model_calls_(max_model_calls) {
    const SessionState& s = *session_.state_;
    if (s.aside && s.options.max_draft_tokens > 0) {
      drafter_.emplace(s.aside->response, s.response.size(), s.options.max_draft_tokens);
    }
    BeginStep();
  }

  absl::Span<const int32_t> pending() const override {
    const SessionState& s = *session_.state_;
    const int64_t held = s.cache.length(), prompt = s.prompt_tokens();
    if (held < prompt) return absl::MakeConstSpan(s.options.prompt_ids).subspan(held);
    if (!step_.empty()) return step_;
    return absl::MakeConstSpan(s.response).subspan(held - prompt);
  }

  bool WantsDraft() const override { return step_.empty() && CanDraft(); }

  // The guess is drawn as the token will be, with the same random number: like logits mostly give the same token.
  bool OnDraftLogits(absl::Span<const float> logits) override {
    const SessionState& s = *session_.state_;
    if (!by_model_) {
      by_model_ = true;
      step_.assign(1, s.response.back());
      random_ = s.random;
    }
    ++s.usage->draft_model.forward_passes;
    ++s.usage->draft_model.forward_tokens;
    step_.push_back(SampleToken(logits, sampling_, random_));
    return step_.size() <= std::min(draft_length_, DraftRoom()) && !s.model->IsEndOfSequence(step_.back());
  }

  int64_t DraftTokens() const override { return by_model_ ? static_cast<int64_t>(step_.size()) - 1 : 0; }

  void OnHidden(const torch::Tensor& hidden) override {
    SessionState& s = *session_.state_;
    ++s.usage->language_model.forward_passes;
    s.usage->language_model.forward_tokens += hidden.size(0);
    // The state behind token p predicts token p + 1; those inside the prompt predict nothing that is asked for.
    const int64_t end = s.cache.length() + 1 - s.prompt_tokens();
    if (end <= 0) return;
    const int64_t count = std::min(end, hidden.size(0));
    if (s.options.keep_hidden) CopyRows(hidden.narrow(0, hidden.size(0) - count, count), s.hidden, end - count);
    if (end <= hidden.size(0)) s.cache.Publish(s.options.prompt_ids);
  }

  int64_t LogitsWanted(int64_t rows_run) override {
    if (step_.empty()) return pending().empty() ? 1 : 0;
    rows_ = rows_run;  // of a draft, as many as there was room for
    return rows_;
  }

  bool OnLogits(absl::Span<const float> logits) override {
    session_.Append(logits, sampling_, stream_);
    done = session_.finished() || (max_model_calls_ && session_.usage().model_calls >= *max_model_calls_);
    ++verified_;
    const bool go_on = !done && verified_ < rows_ && session_.state_->response.back() == step_[verified_];
    if (!go_on) EndStep();
    return go_on;
  }

 private:
  void BeginStep() {
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
  bool CanDraft() const {
    const SessionState& s = *session_.state_;
    const int64_t known = s.prompt_tokens() + static_cast<int64_t>(s.response.size());
    return !done && !s.response.empty() && s.cache.length() + 1 == known && DraftRoom() > 0;
  }

  // As many as are still to come but the one that a pass brings in any case.
  size_t DraftRoom() const {
    const SessionState& s = *session_.state_;
    return std::min<size_t>(s.options.max_new_tokens - s.response.size() - 1, s.options.max_draft_tokens);
  }

  // Forgets the keys and values of draft tokens that were not drawn.
  void EndStep() {
    SessionState& s = *session_.state_;
    if (rows_ > 1) {
      const int64_t drafted = rows_ - 1, accepted = verified_ - 1;
      if (by_model_) {
        const auto most = static_cast<size_t>(s.options.max_draft_tokens);
        draft_length_ =
            accepted == drafted ? std::min(2 * draft_length_, most) : std::max<size_t>(1, draft_length_ / 2);
      }
      s.usage->draft_tokens_accepted += accepted;
      s.usage->draft_tokens_rejected += drafted - accepted;
      s.cache.Truncate(s.prompt_tokens() + static_cast<int64_t>(s.response.size()) - 1);
    }
    BeginStep();
  }

  Session& session_;
  const SamplingOptions& sampling_;
  const Stream stream_;
  const std::optional<int64_t> max_model_calls_;
  std::optional<Drafter> drafter_;
  bool by_model_ = false;            // whose guesses step_ holds: the draft model's, or those of the earlier rollout
  size_t draft_length_ = 8;          // of the draft model's next
  RandomSource random_{0};           // a copy of the session's, drawn from ahead of it
  std::vector<int32_t> step_;        // the last token and what may follow it; empty without a draft
  int64_t rows_ = 0, verified_ = 0;  // of step_: run, and looked at
};

Session::Session(std::unique_ptr<SessionState> state) : state_(std::move(state)) {}
Session::~Session() = default;

absl::StatusOr<std::unique_ptr<Session>> Session::Create(ModelRunner* runner, Options options, const StopToken* stop,
                                                         EventSink* sink, Usage* usage) {
  const Model* model = runner->model().get();
  const int64_t prompt = static_cast<int64_t>(options.prompt_ids.size());
  if (prompt == 0) return absl::InvalidArgumentError("messages: the prompt has no tokens; say something");
  const int64_t room = model->max_length() - prompt;
  if (room < 1) {
    return absl::OutOfRangeError(
        absl::StrCat("messages: the prompt has ", prompt, " tokens; the model takes ", model->max_length(),
                     " together with the answer, so shorten it to at most ", model->max_length() - 1));
  }
  for (const int32_t token : options.prompt_ids) {
    if (token >= model->config().vocabulary_size) {
      return absl::InvalidArgumentError(absl::StrCat("messages: token ", token, " has no embedding in this model (",
                                                     model->config().vocabulary_size, " rows)"));
    }
  }
  options.max_new_tokens = static_cast<int>(std::min<int64_t>(options.max_new_tokens, room));
  return GuardTorch([&]() -> absl::StatusOr<std::unique_ptr<Session>> {
    auto state = std::make_unique<SessionState>(runner, std::move(options));
    state->stop = stop;
    state->sink = sink;
    state->usage = usage;
    state->started = absl::Now();
    usage->prompt_tokens = static_cast<int>(prompt);
    return std::unique_ptr<Session>(new Session(std::move(state)));
  });
}

absl::Status Session::RollOut(const SamplingOptions& sampling, Stream stream) {
  ++state_->usage->rollouts;
  if (state_->cache.length() == 0) state_->cache.StartFrom(state_->options.prompt_ids);
  return Decode(sampling, stream);
}

absl::StatusOr<std::unique_ptr<Session>> Session::Branch(uint64_t seed) {
  SessionState& s = *state_;
  static SilentSink* const silent = new SilentSink();
  if (s.cache.length() == 0) {
    s.cache.StartFrom(s.options.prompt_ids);
    PromptJob job(&s);
    if (!job.pending().empty()) NABLA_RETURN_IF_ERROR(s.runner->Run(job));
  }
  Options options = s.options;
  options.seed = seed;
  options.keep_hidden = false;
  NABLA_ASSIGN_OR_RETURN(std::unique_ptr<Session> branch,
                         Create(s.runner, std::move(options), s.stop, silent, s.usage));
  NABLA_RETURN_IF_ERROR(GuardTorch([&] {
    branch->state_->cache = s.cache.Fork(s.prompt_tokens() - 1);
    return absl::OkStatus();
  }));
  return branch;
}

absl::Status Session::RollOutTogether(absl::Span<const std::unique_ptr<Session>> branches,
                                      const SamplingOptions& sampling, std::optional<int64_t> max_model_calls) {
  if (state_->cache.length() == 0) state_->cache.StartFrom(state_->options.prompt_ids);
  std::vector<std::unique_ptr<RolloutJob>> jobs;
  jobs.push_back(std::make_unique<RolloutJob>(this, sampling, Stream::kDraft, max_model_calls));
  for (const std::unique_ptr<Session>& branch : branches) {
    jobs.push_back(std::make_unique<RolloutJob>(branch.get(), sampling, Stream::kDraft, max_model_calls));
  }
  state_->usage->rollouts += static_cast<int>(jobs.size());
  std::vector<SequenceJob*> batch;
  for (const std::unique_ptr<RolloutJob>& job : jobs) batch.push_back(job.get());
  NABLA_RETURN_IF_ERROR(state_->runner->Run(batch));
  EmitDraft();
  return absl::OkStatus();
}

void Session::Adopt(Session& branch) {
  SessionState &s = *state_, &other = *branch.state_;
  s.response = std::move(other.response);
  s.stats = std::move(other.stats);
  s.stopped = other.stopped;
  s.cache = std::move(other.cache);
  EmitDraft();
}

absl::Status Session::Decode(const SamplingOptions& sampling, Stream stream) {
  if (!finished()) {
    RolloutJob job(this, sampling, stream);
    NABLA_RETURN_IF_ERROR(state_->runner->Run(job));
  }
  if (stream == Stream::kDraft) EmitDraft();
  return absl::OkStatus();
}

// On the execution thread, while this session's worker waits.
void Session::Append(absl::Span<const float> logits, const SamplingOptions& sampling, Stream stream) {
  SessionState& s = *state_;
  const kernels::RowStats stats = kernels::StatsOf(logits.data(), static_cast<int64_t>(logits.size()));
  const int32_t token = sampling.temperature > 0 ? SampleToken(logits, sampling, s.random) : stats.argmax;
  s.response.push_back(token);
  s.stats.push_back({.argmax = stats.argmax, .confidence = stats.confidence, .entropy = stats.entropy});
  s.stopped = EndsWithStopSequence();
  ++s.usage->decoded_tokens;
  ++s.usage->model_calls;
  if (stream == Stream::kCommit) {
    Commit(1);
  } else if (s.response.size() == 1 || absl::Now() - s.last_draft >= kDraftInterval) {
    EmitDraft();
  }
}

absl::Status Session::Propose(int32_t token, const SamplingOptions& sampling) {
  SessionState& s = *state_;
  NABLA_RETURN_IF_ERROR(GuardTorch([&] {
    const int64_t position = s.committed, rows = static_cast<int64_t>(s.response.size());
    KvCache prefix = s.cache.Fork(s.prompt_tokens() + position);
    s.aside.emplace(
        SessionState::SetAside{.response = s.response,
                               .stats = s.stats,
                               .stopped = s.stopped,
                               .cache = std::exchange(s.cache, std::move(prefix)),
                               .hidden_begin = position + 1,
                               .hidden_tail = s.hidden.narrow(0, position + 1, rows - position - 1).clone()});
    s.response.resize(position);
    s.response.push_back(token);
    s.stats.resize(position + 1);  // the position's own statistics are those of the same hidden state
    s.stopped = EndsWithStopSequence();
    ++s.usage->rollouts;
    return absl::OkStatus();
  }));
  return Decode(sampling, Stream::kDraft);
}

void Session::Accept() { state_->aside.reset(); }

void Session::Reject() {
  SessionState& s = *state_;
  SessionState::SetAside aside = *std::move(s.aside);
  s.aside.reset();
  s.response = std::move(aside.response);
  s.stats = std::move(aside.stats);
  s.stopped = aside.stopped;
  s.cache = std::move(aside.cache);
  CopyRows(aside.hidden_tail, s.hidden, aside.hidden_begin);
  EmitDraft();
}

void Session::Commit(int count) {
  if (count <= 0) return;
  SessionState& s = *state_;
  CommittedEvent event;
  for (int i = 0; i < count; ++i) {
    const int32_t token = s.response[s.committed++];
    event.token_ids.push_back(token);
    event.text += s.detokenizer.Push(token);
  }
  if (ahead() == 0 && finished()) event.text += s.detokenizer.Flush();
  s.committed_text += event.text;
  if (s.usage->time_to_first_token == absl::ZeroDuration()) s.usage->time_to_first_token = absl::Now() - s.started;
  s.sink->OnEvent(std::move(event));
}

bool Session::finished() const {
  const SessionState& s = *state_;
  if (s.response.empty()) return false;
  return s.stopped || static_cast<int>(s.response.size()) >= s.options.max_new_tokens ||
         s.model->IsEndOfSequence(s.response.back());
}

// Looks at the bytes that the last token added, and as many before them as a stop sequence can reach back.
bool Session::EndsWithStopSequence() const {
  const SessionState& s = *state_;
  if (s.options.stop.empty() || s.response.empty()) return false;
  size_t longest = 0;
  for (const std::string& stop : s.options.stop) longest = std::max(longest, stop.size());
  const Tokenizer& tokenizer = s.model->tokenizer();
  const size_t wanted = longest + tokenizer.TokenBytes(s.response.back()).size();
  std::string tail;
  for (auto it = s.response.rbegin(); it != s.response.rend() && tail.size() < wanted; ++it) {
    if (!tokenizer.IsSpecial(*it)) tail.insert(0, std::string(tokenizer.TokenBytes(*it)));
  }
  return std::any_of(s.options.stop.begin(), s.options.stop.end(),
                     [&](const std::string& stop) { return absl::StrContains(tail, stop); });
}

void Session::EmitDraft() {
  SessionState& s = *state_;
  DraftEvent draft{.position = s.committed};
  StreamingDetokenizer detokenizer = s.detokenizer;
  for (size_t i = s.committed; i < s.response.size(); ++i) {
    draft.token_ids.push_back(s.response[i]);
    draft.token_texts.push_back(detokenizer.Push(s.response[i]));
  }
  if (!draft.token_texts.empty()) draft.token_texts.back() += detokenizer.Flush();
  for (const std::string& text : draft.token_texts) draft.text += text;
  if (s.usage->time_to_first_token == absl::ZeroDuration()) s.usage->time_to_first_token = absl::Now() - s.started;
  s.sink->OnEvent(std::move(draft));
  s.last_draft = absl::Now();
}

absl::Span<const int32_t> Session::response() const { return state_->response; }
absl::Span<const int32_t> Session::before_proposal() const { return state_->aside->response; }
int Session::committed() const { return state_->committed; }
const PositionStats& Session::stats(int position) const { return state_->stats[position]; }
const std::string& Session::committed_text() const { return state_->committed_text; }
int Session::max_new_tokens() const { return state_->options.max_new_tokens; }
uint64_t Session::seed() const { return state_->options.seed; }
const StopToken& Session::stop() const { return *state_->stop; }
Usage& Session::usage() const { return *state_->usage; }
EventSink& Session::sink() const { return *state_->sink; }

FinishReason Session::finish_reason() const {
  const SessionState& s = *state_;
  if (s.response.empty()) return FinishReason::kLength;
  if (s.model->IsEndOfSequence(s.response.back())) return FinishReason::kEndOfSequence;
  return s.stopped ? FinishReason::kStopSequence : FinishReason::kLength;
}

int32_t Session::Sample(absl::Span<const float> logits, const SamplingOptions& sampling) {
  return SampleToken(logits, sampling, state_->random);
}

std::string Session::TokenText(int32_t token) const {
  return state_->model->tokenizer().Decode({token}, /*skip_special_tokens=*/false);
}

std::string Session::ResponseText() const {
  return state_->model->tokenizer().Decode(state_->response, /*skip_special_tokens=*/true);
}

}  // namespace nabla
