// One request's text in the making: prompt, committed tokens, and the current rollout's tail ahead of them.
//
//   NABLA_ASSIGN_OR_RETURN(auto session, Session::Create(&runner, options, &stop, &sink, &usage));
//   NABLA_RETURN_IF_ERROR(session->RollOut({.temperature = 0}, Session::Stream::kDraft));
//   session->Commit(3);                                        // the first three ahead tokens are final
//   NABLA_RETURN_IF_ERROR(session->Propose(token, sampling));  // another token there, a fresh rollout behind it
//   better ? session->Accept() : session->Reject();
//
// Plain C++ to its users; keys, values and hidden states are inside (session_state() for refine/). Not thread-safe: one
// worker runs it. RollOut and Propose block while the engine's execution thread decodes, beside what other requests
// decode; it then calls the sink, and looks at the stop token before every step. Positions count response tokens from
// 0.
#ifndef NABLA_ENGINE_DECODE_SESSION_H_
#define NABLA_ENGINE_DECODE_SESSION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/event.h"
#include "engine/base/request.h"
#include "engine/base/stop_token.h"

namespace nabla {

class ModelRunner;
struct SessionState;

// What the logits of a position said when it was decoded (untempered).
struct PositionStats {
  int32_t argmax = 0;
  double confidence = 0;                  // largest probability
  double entropy = 0;                     // nats
  std::optional<double> log_probability;  // of the token that stands there; unset where that was given, not decoded
};

class Session {
 public:
  struct Options {
    std::vector<int32_t> prompt_ids;
    int max_new_tokens = 256;
    std::vector<std::string> stop;
    uint64_t seed = 0;
    int max_draft_tokens = 8;       // guessed ones that a pass verifies; 0: none
    bool keep_hidden = true;        // hidden states, without which nothing can be refined
    bool keep_activations = false;  // of response tokens, for gradients at them, as far as the runner's budget goes
    bool is_draft = false;          // whether its passes are the draft model's in the books
  };
  enum class Stream { kCommit, kDraft };  // decoded tokens are final at once, or a tail that may still change

  // All of `runner`, `stop`, `sink` (null: nobody is told) and `usage` must outlive the session. OUT_OF_RANGE where the
  // prompt leaves no room for a token; max_new_tokens is cut to the room there is.
  static absl::StatusOr<std::unique_ptr<Session>> Create(ModelRunner* runner, Options options, const StopToken* stop,
                                                         EventSink* sink, Usage* usage);
  ~Session();

  // Decodes from the end of the response to EOS, a stop sequence or max_new_tokens; the prompt first, as far as nobody
  // has run one that begins alike.
  absl::Status RollOut(const SamplingOptions& sampling, Stream stream);

  // Another session of the same request that goes on behind the first `position` tokens of the response and `tokens`,
  // as far as none of them finishes it; it tells nobody what it decodes and keeps no hidden states. Keys and values of
  // what stands here already are shared and not run again; the prompt is run if nobody has. `tokens` are given, not
  // decoded, and their statistics are not known; there is at least one where `position` is inside the response. Nothing
  // may be committed.
  absl::StatusOr<std::unique_ptr<Session>> BranchAt(int position, absl::Span<const int32_t> tokens, uint64_t seed);

  // Rolls out sessions of this request that are all of one model, as one batch; those finished stay as they are. Each
  // ends with the token that completes `separator`, if one is given, and all end where they stand once the request's
  // model calls have reached `max_model_calls`.
  absl::Status RollOutTogether(absl::Span<Session* const> sessions, const SamplingOptions& sampling,
                               std::optional<int64_t> max_model_calls, const std::string& separator = "");

  // Tells the caller a branch's text as the draft.
  void Show(const Session& branch);

  // The rollout of a branch, which loses it, in place of this one's; nothing is committed yet, and nothing of it can be
  // refined.
  void Adopt(Session& branch);

  // Replaces the first ahead token by `token` and rolls out behind it; the current rollout is set aside until Accept or
  // Reject.
  absl::Status Propose(int32_t token, const SamplingOptions& sampling);
  void Accept();
  void Reject();

  // Makes the first `count` ahead tokens final and tells the caller. No-op for 0.
  void Commit(int count);
  void CommitAll() { Commit(ahead()); }

  // Goes on behind the first `count` ahead tokens as Commit does, but tells nobody: they are ahead again after Rewind,
  // and final with the next Commit.
  void Pass(int count);
  void Rewind();

  absl::Span<const int32_t> response() const;         // committed and ahead
  absl::Span<const int32_t> before_proposal() const;  // the response that Propose set aside
  // Of the response, and of the one that Propose set aside, by the language model. Run its head for tokens that were
  // given, once each.
  absl::StatusOr<double> LogLikelihood();
  absl::StatusOr<double> LogLikelihoodBeforeProposal();
  int told() const;  // response tokens that the caller was told of
  int committed() const;
  int ahead() const { return static_cast<int>(response().size()) - committed(); }
  const PositionStats& stats(int position) const;
  bool finished() const;               // whether the current rollout has come to its end
  FinishReason finish_reason() const;  // of the current rollout
  const std::string& committed_text() const;
  int max_new_tokens() const;
  uint64_t seed() const;
  int32_t Sample(absl::Span<const float> logits,
                 const SamplingOptions& sampling);  // from the request's own random numbers
  std::string TokenText(int32_t token) const;
  std::string ResponseText() const;  // committed and ahead, without special tokens

  const SessionState& state() const { return *state_; }
  const StopToken& stop() const;
  Usage& usage() const;
  EventSink& sink() const;

 private:
  class PromptJob;
  class RolloutJob;

  explicit Session(std::unique_ptr<SessionState> state);
  absl::Status Decode(const SamplingOptions& sampling, Stream stream);
  void Append(absl::Span<const float> logits, const SamplingOptions& sampling, Stream stream);
  bool EndsWith(const std::vector<std::string>& texts) const;
  absl::StatusOr<double> LogLikelihoodOf(const std::vector<int32_t>& response, std::vector<PositionStats>& stats);
  void EmitDraft(absl::Span<const int32_t> response);

  std::unique_ptr<SessionState> state_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_DECODE_SESSION_H_
