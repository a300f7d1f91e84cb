#include "engine/decode/session.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/decode/session_jobs.h"
#include "engine/decode/session_state.h"
#include "engine/kernels/elementwise.h"
#include "engine/model/device.h"

namespace nabla {
namespace {

constexpr absl::Duration kDraftInterval = absl::Milliseconds(15);  // drafts are whole tails: no eye needs more of them

double LogProbability(absl::Span<const float> logits, const kernels::RowStats& stats, int32_t token) {
  return std::log(static_cast<double>(stats.confidence)) + logits[token] - logits[stats.argmax];
}

}  // namespace

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

absl::StatusOr<std::unique_ptr<Session>> Session::BranchAt(int position, absl::Span<const int32_t> tokens,
                                                           uint64_t seed) {
  SessionState& s = *state_;
  if (s.cache.length() == 0) {
    s.cache.StartFrom(s.options.prompt_ids);
    PromptJob job(&s);
    if (!job.pending().empty()) NABLA_RETURN_IF_ERROR(s.runner->Run(job));
  }
  Options options = s.options;
  options.seed = seed;
  options.keep_hidden = options.keep_activations = false;
  NABLA_ASSIGN_OR_RETURN(std::unique_ptr<Session> branch,
                         Create(s.runner, std::move(options), s.stop, /*sink=*/nullptr, s.usage));
  SessionState& other = *branch->state_;
  other.response.assign(s.response.begin(), s.response.begin() + position);
  other.stats.assign(s.stats.begin(), s.stats.begin() + position);
  other.stopped = branch->EndsWith(s.options.stop);
  for (size_t i = 0; i < tokens.size() && !branch->finished(); ++i) {
    other.response.push_back(tokens[i]);
    other.stats.emplace_back();
    other.stopped = branch->EndsWith(s.options.stop);
  }
  NABLA_RETURN_IF_ERROR(GuardTorch([&] {
    other.cache = s.cache.Fork(std::min(s.cache.length(), s.prompt_tokens() + position));
    return absl::OkStatus();
  }));
  return branch;
}

absl::Status Session::RollOutTogether(absl::Span<Session* const> sessions, const SamplingOptions& sampling,
                                      std::optional<int64_t> max_model_calls, const std::string& separator) {
  const RolloutLimits limits{.max_model_calls = max_model_calls, .separator = separator};
  ModelRunner* runner = nullptr;
  std::vector<std::unique_ptr<RolloutJob>> jobs;
  std::vector<SequenceJob*> batch;
  for (Session* session : sessions) {
    if (session->finished()) continue;
    SessionState& s = *session->state_;
    if (s.cache.length() == 0) s.cache.StartFrom(s.options.prompt_ids);
    runner = s.runner;
    jobs.push_back(std::make_unique<RolloutJob>(session, sampling, Stream::kDraft, limits));
    batch.push_back(jobs.back().get());
  }
  state_->usage->rollouts += static_cast<int>(batch.size());
  return runner != nullptr ? runner->Run(batch) : absl::OkStatus();
}

void Session::Show(const Session& branch) { EmitDraft(branch.state_->response); }

void Session::Adopt(Session& branch) {
  SessionState &s = *state_, &other = *branch.state_;
  s.response = std::move(other.response);
  s.stats = std::move(other.stats);
  s.stopped = other.stopped;
  s.cache = std::move(other.cache);
}

absl::Status Session::Decode(const SamplingOptions& sampling, Stream stream) {
  if (!finished()) {
    const RolloutLimits limits;
    RolloutJob job(this, sampling, stream, limits);
    NABLA_RETURN_IF_ERROR(state_->runner->Run(job));
  }
  if (stream == Stream::kDraft) EmitDraft(state_->response);
  return absl::OkStatus();
}

// On the execution thread, while this session's worker waits.
void Session::Append(absl::Span<const float> logits, const SamplingOptions& sampling, Stream stream) {
  SessionState& s = *state_;
  const kernels::RowStats stats = kernels::StatsOf(logits.data(), static_cast<int64_t>(logits.size()));
  const int32_t token = sampling.temperature > 0 ? SampleToken(logits, sampling, s.random) : stats.argmax;
  s.response.push_back(token);
  s.stats.push_back({.argmax = stats.argmax,
                     .confidence = stats.confidence,
                     .entropy = stats.entropy,
                     .log_probability = LogProbability(logits, stats, token)});
  s.stopped = EndsWith(s.options.stop);
  ++s.usage->decoded_tokens;
  ++s.usage->model_calls;
  if (stream == Stream::kCommit) {
    Commit(1);
  } else if (s.response.size() == 1 || absl::Now() - s.last_draft >= kDraftInterval) {
    EmitDraft(s.response);
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
    // The position's own statistics are those of the same hidden state, but for the token's probability.
    s.stats.resize(position + 1);
    s.stats.back().log_probability.reset();
    s.stopped = EndsWith(s.options.stop);
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
  s.KeepHidden(aside.hidden_tail, aside.hidden_begin);
  EmitDraft(s.response);
}

void Session::Commit(int count) {
  SessionState& s = *state_;
  s.committed += count;
  if (s.told == s.committed) return;
  CommittedEvent event;
  while (s.told < s.committed) {
    const int32_t token = s.response[s.told++];
    event.token_ids.push_back(token);
    event.text += s.detokenizer.Push(token);
  }
  if (ahead() == 0 && finished()) event.text += s.detokenizer.Flush();
  s.committed_text += event.text;
  if (s.usage->time_to_first_token == absl::ZeroDuration()) s.usage->time_to_first_token = absl::Now() - s.started;
  s.sink->OnEvent(std::move(event));
}

void Session::Pass(int count) { state_->committed += count; }

void Session::Rewind() { state_->committed = state_->told; }

bool Session::finished() const {
  const SessionState& s = *state_;
  if (s.response.empty()) return false;
  return s.stopped || static_cast<int>(s.response.size()) >= s.options.max_new_tokens ||
         s.model->IsEndOfSequence(s.response.back());
}

// Whether the last token has completed one of `texts`: looks at its bytes, and as many before them as can belong to
// one.
bool Session::EndsWith(const std::vector<std::string>& texts) const {
  const SessionState& s = *state_;
  if (texts.empty() || s.response.empty()) return false;
  size_t longest = 0;
  for (const std::string& text : texts) longest = std::max(longest, text.size());
  const Tokenizer& tokenizer = s.model->tokenizer();
  const size_t last = tokenizer.IsSpecial(s.response.back()) ? 0 : tokenizer.TokenBytes(s.response.back()).size();
  std::string tail;
  for (auto it = s.response.rbegin(); it != s.response.rend() && tail.size() < longest + last; ++it) {
    if (!tokenizer.IsSpecial(*it)) tail.insert(0, std::string(tokenizer.TokenBytes(*it)));
  }
  return std::any_of(texts.begin(), texts.end(), [&](const std::string& text) {
    const size_t within = std::min(tail.size(), text.size() + last - 1);  // texts are not empty
    return absl::StrContains(absl::string_view(tail).substr(tail.size() - within), text);
  });
}

void Session::EmitDraft(absl::Span<const int32_t> response) {
  SessionState& s = *state_;
  if (s.sink == nullptr) return;
  DraftEvent draft{.position = s.told};
  StreamingDetokenizer detokenizer = s.detokenizer;
  for (size_t i = s.told; i < response.size(); ++i) {
    draft.token_ids.push_back(response[i]);
    draft.token_texts.push_back(detokenizer.Push(response[i]));
  }
  if (!draft.token_texts.empty()) draft.token_texts.back() += detokenizer.Flush();
  for (const std::string& text : draft.token_texts) draft.text += text;
  if (s.usage->time_to_first_token == absl::ZeroDuration()) s.usage->time_to_first_token = absl::Now() - s.started;
  s.sink->OnEvent(std::move(draft));
  s.last_draft = absl::Now();
}

absl::StatusOr<double> Session::LogLikelihood() { return LogLikelihoodOf(state_->response, state_->stats); }

absl::StatusOr<double> Session::LogLikelihoodBeforeProposal() {
  return LogLikelihoodOf(state_->aside->response, state_->aside->stats);
}

// Given tokens stand where Propose has put them: at positions whose hidden states both responses share.
absl::StatusOr<double> Session::LogLikelihoodOf(const std::vector<int32_t>& response,
                                                std::vector<PositionStats>& stats) {
  const SessionState& s = *state_;
  double sum = 0;
  for (size_t i = 0; i < stats.size(); ++i) {
    if (!stats[i].log_probability) {
      NABLA_RETURN_IF_ERROR(s.runner->Compute([&] {
        const torch::Tensor row =
            s.model->Head(s.hidden.narrow(0, static_cast<int64_t>(i), 1)).to(torch::kCPU).contiguous();
        const absl::Span<const float> logits(row.data_ptr<float>(), row.numel());
        const kernels::RowStats row_stats = kernels::StatsOf(logits.data(), static_cast<int64_t>(logits.size()));
        stats[i].log_probability = LogProbability(logits, row_stats, response[i]);
      }));
    }
    sum += *stats[i].log_probability;
  }
  return sum;
}

absl::Span<const int32_t> Session::response() const { return state_->response; }
absl::Span<const int32_t> Session::before_proposal() const { return state_->aside->response; }
int Session::told() const { return state_->told; }
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
