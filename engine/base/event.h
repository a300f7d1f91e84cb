// What a running request tells its caller, in order; the API's ReasonEvent without protobuf.
//
// Committed texts concatenated are the response, byte for byte, always whole UTF-8. Drafts may be merged or dropped by
// whoever carries them; everything else arrives.
#ifndef NABLA_ENGINE_BASE_EVENT_H_
#define NABLA_ENGINE_BASE_EVENT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"

namespace nabla {

// The request has left the queue; the settings in force.
struct StartedEvent {
  std::string model;
  std::string reward_model;  // empty without one
  std::string strategy;
  uint64_t seed = 0;
  int prompt_tokens = 0;
  int max_new_tokens = 0;  // after the model's length is taken into account
};

// Final tokens. `text` may be empty where a token ends inside a character; the rest follows with the next event.
struct CommittedEvent {
  std::vector<int32_t> token_ids;
  std::string text;
};

// The tail as it stands behind the committed tokens: the whole tail, not a difference.
struct DraftEvent {
  int position = 0;  // response position of the first token of the tail
  std::vector<int32_t> token_ids;
  std::vector<std::string> token_texts;  // one a token; concatenated: `text`
  std::string text;
};

// A proposal for one token was tested.
struct RevisionEvent {
  int position = 0;  // response position, from 0
  int32_t old_token_id = 0;
  int32_t new_token_id = 0;
  std::string old_text;
  std::string new_text;
  std::optional<double> reward_before;  // unset with rejection sampling off, where nobody asks
  std::optional<double> reward_after;
  std::vector<double> guard_gains;  // reward after less before of each guard model; empty where none was asked
  bool accepted = false;
  double gradient_norm = 0;  // ‖G‖₂ at the position, G the gradient of the loss at the one-hots
};

// A position was refined, whether or not its token changed.
struct ProgressEvent {
  int position = 0;
  int gradient_steps = 0;    // of this refinement, counted the paper's way
  int64_t model_calls = 0;   // of the request so far
  double gradient_norm = 0;  // as in RevisionEvent
};

// One of the responses of a strategy that votes or ranks, once it has chosen; the chosen one's tokens are then
// committed.
struct CandidateEvent {
  int index = 0;  // from 0
  std::vector<int32_t> token_ids;
  std::string text;
  std::optional<double> reward;  // unset where no reward model was asked
  bool chosen = false;
};

using Event = std::variant<StartedEvent, CommittedEvent, DraftEvent, RevisionEvent, ProgressEvent, CandidateEvent>;

// Receives a request's events, called from the worker thread that runs it. Must not block.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void OnEvent(Event event) = 0;
};

// Passes and tokens really run through one model.
struct ModelWork {
  int64_t forward_passes = 0;
  int64_t forward_tokens = 0;
  int64_t backward_passes = 0;
  int64_t backward_tokens = 0;

  ModelWork& operator+=(const ModelWork& other) {
    forward_passes += other.forward_passes, forward_tokens += other.forward_tokens;
    backward_passes += other.backward_passes, backward_tokens += other.backward_tokens;
    return *this;
  }
};

// Costs of a request. `model_calls` is the paper's count (algorithm.md, "Counting model calls").
struct Usage {
  int prompt_tokens = 0;
  int completion_tokens = 0;
  int rollouts = 0;
  int revisions_accepted = 0;
  int revisions_rejected = 0;
  int gradient_steps = 0;           // the paper's count: as if nothing were reused
  int gradient_steps_computed = 0;  // passes really run
  int64_t decoded_tokens = 0;
  int64_t model_calls = 0;
  int64_t draft_tokens_accepted = 0;  // guessed and decoded as guessed; among decoded_tokens
  int64_t draft_tokens_rejected = 0;
  int64_t int8_tokens_accepted = 0;  // of the former, guessed by int8 weights, the rest by an earlier rollout
  int64_t int8_tokens_rejected = 0;  // of the latter
  ModelWork language_model;
  ModelWork reward_model;  // guard models included
  ModelWork draft_model;
  absl::Duration queue_time;
  absl::Duration time_to_first_token;  // from leaving the queue to the first Draft or Committed event
  absl::Duration refine_time;
  absl::Duration reward_time;  // scoring for acceptance tests; gradients count as refine_time
  absl::Duration total_time;   // from leaving the queue
};

enum class FinishReason { kEndOfSequence, kStopSequence, kLength, kModelCallBudget };

// How a request ended well.
struct ReasonResult {
  FinishReason finish_reason = FinishReason::kEndOfSequence;
  std::string text;
  std::vector<int32_t> token_ids;
  std::optional<double> reward;          // of the answer; unset where no reward model was consulted
  std::optional<double> initial_reward;  // of the first rollout
  std::vector<RevisionEvent> revisions;  // all that were tested, in order
  bool reward_lost = false;              // the reward model became unavailable and the request went on without it
  Usage usage;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_BASE_EVENT_H_
