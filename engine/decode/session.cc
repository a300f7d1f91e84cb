#include "engine/decode/session.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/decode/session_state.h"
#include "engine/model/device.h"

namespace nabla {
namespace {

constexpr int64_t kPrefillChunk = 512;  // tokens a forward pass, so that a stop is seen in between
constexpr absl::Duration kDraftInterval = absl::Milliseconds(15);  // drafts are whole tails: no eye needs more of them

PositionStats StatsOf(const torch::Tensor& logits) {
  const auto [largest, index] = logits.max(-1);
  const torch::Tensor log_probs = torch::log_softmax(logits, -1);
  const torch::Tensor packed = torch::stack({index.to(torch::kFloat64), log_probs.max().exp().to(torch::kFloat64),
                                             -(log_probs.exp() * log_probs).nan_to_num(0.0).sum().to(torch::kFloat64)})
                                   .cpu();
  const double* values = packed.data_ptr<double>();
  return {.argmax = static_cast<int32_t>(values[0]), .confidence = values[1], .entropy = values[2]};
}

}  // namespace

Session::Session(std::unique_ptr<SessionState> state) : state_(std::move(state)) {}
Session::~Session() = default;

absl::StatusOr<std::unique_ptr<Session>> Session::Create(std::shared_ptr<const Model> model, Options options,
                                                         const StopToken* stop, EventSink* sink, Usage* usage) {
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
    const int64_t capacity = prompt + options.max_new_tokens;
    auto state = std::make_unique<SessionState>(std::move(model), std::move(options), capacity);
    state->stop = stop;
    state->sink = sink;
    state->usage = usage;
    state->started = absl::Now();
    usage->prompt_tokens = static_cast<int>(prompt);
    for (int64_t begin = 0; begin < prompt; begin += kPrefillChunk) {
      NABLA_RETURN_IF_ERROR(stop->Check());
      const int64_t count = std::min(kPrefillChunk, prompt - begin);
      const absl::Span<const int32_t> ids(state->options.prompt_ids.data() + begin, count);
      const torch::InferenceMode inference;
      const torch::Tensor hidden = state->model->body().Extend(state->model->body().Embed(ids), state->cache);
      state->hidden[0].copy_(hidden[count - 1]);
      ++usage->language_model.forward_passes;
      usage->language_model.forward_tokens += count;
    }
    return std::unique_ptr<Session>(new Session(std::move(state)));
  });
}

absl::Status Session::RollOut(const SamplingOptions& sampling, Stream stream) {
  ++state_->usage->rollouts;
  return GuardTorch([&] { return Decode(sampling, stream); });
}

absl::Status Session::Decode(const SamplingOptions& sampling, Stream stream) {
  const torch::InferenceMode inference;
  SessionState& s = *state_;
  while (!Finished()) {
    NABLA_RETURN_IF_ERROR(s.stop->Check());
    const int64_t position = static_cast<int64_t>(s.response.size());
    if (s.cache.length() < s.prompt_tokens() + position) {
      const torch::Tensor hidden =
          s.model->body().Extend(s.model->body().Embed({s.response.data() + position - 1, 1}), s.cache);
      s.hidden[position].copy_(hidden[0]);
      ++s.usage->language_model.forward_passes;
      ++s.usage->language_model.forward_tokens;
    }
    const torch::Tensor logits = s.model->Head(s.hidden.narrow(0, position, 1))[0];
    const PositionStats stats = StatsOf(logits);
    int32_t token = stats.argmax;
    if (sampling.temperature > 0) {
      const torch::Tensor row = logits.cpu();
      token = SampleToken({row.data_ptr<float>(), static_cast<size_t>(row.numel())}, sampling, s.random);
    }
    s.response.push_back(token);
    s.stats.push_back(stats);
    s.stopped = EndsWithStopSequence();
    ++s.usage->decoded_tokens;
    ++s.usage->model_calls;
    if (stream == Stream::kCommit) {
      Commit(1);
    } else if (position == 0 || absl::Now() - s.last_draft >= kDraftInterval) {
      EmitDraft();
    }
  }
  if (stream == Stream::kDraft) EmitDraft();
  return absl::OkStatus();
}

absl::Status Session::Propose(int32_t token, const SamplingOptions& sampling) {
  SessionState& s = *state_;
  return GuardTorch([&]() -> absl::Status {
    const torch::InferenceMode inference;
    const int64_t position = s.committed, rows = static_cast<int64_t>(s.response.size());
    SessionState::SetAside aside{.response = s.response, .stats = s.stats, .stopped = s.stopped};
    aside.cache_tail = s.cache.CopyTail(s.prompt_tokens() + position);
    aside.hidden_begin = position + 1;
    aside.hidden_tail = s.hidden.narrow(0, position + 1, rows - position - 1).clone();
    s.aside = std::move(aside);

    s.cache.Truncate(s.prompt_tokens() + position);
    s.response.resize(position);
    s.response.push_back(token);
    s.stats.resize(position + 1);  // the position's own statistics are those of the same hidden state
    s.stopped = EndsWithStopSequence();
    ++s.usage->rollouts;
    return Decode(sampling, Stream::kDraft);
  });
}

void Session::Accept() { state_->aside.reset(); }

void Session::Reject() {
  SessionState& s = *state_;
  const torch::InferenceMode inference;
  SessionState::SetAside aside = *std::move(s.aside);
  s.aside.reset();
  s.response = std::move(aside.response);
  s.stats = std::move(aside.stats);
  s.stopped = aside.stopped;
  s.cache.RestoreTail(aside.cache_tail);
  s.hidden.narrow(0, aside.hidden_begin, aside.hidden_tail.size(0)).copy_(aside.hidden_tail);
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
  if (ahead() == 0 && Finished()) event.text += s.detokenizer.Flush();
  s.committed_text += event.text;
  if (s.usage->time_to_first_token == absl::ZeroDuration()) s.usage->time_to_first_token = absl::Now() - s.started;
  s.sink->OnEvent(std::move(event));
}

bool Session::Finished() const {
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

}  // namespace nabla
