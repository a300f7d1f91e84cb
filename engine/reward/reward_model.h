// What scores answers: a number for a whole response, and its gradient at the reward model's input embeddings.
//
//   NABLA_ASSIGN_OR_RETURN(auto context, reward_model.Open({{"user", "What is 2 + 3?"}}, /*max_response_tokens=*/64));
//   NABLA_ASSIGN_OR_RETURN(double reward, context->Score(response_ids));
//
// Token ids here are the reward model's own (ResponseScorer translates). A RewardModel is immutable and thread-safe; a
// RewardContext belongs to one request and one thread and keeps what its responses have in common. Both block while
// they compute. Source: algorithm.md, "Refinement (DTO)"; gradients are L×H, never L×V (equivalence 1).
#ifndef NABLA_ENGINE_REWARD_REWARD_MODEL_H_
#define NABLA_ENGINE_REWARD_REWARD_MODEL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/base/event.h"
#include "engine/base/model_info.h"
#include "engine/base/stop_token.h"
#include "engine/text/chat_message.h"

namespace nabla {

enum class RewardKind {
  kClassifier,  // score head at the last position of the template around the response
  kLikelihood,  // Σ log-probabilities of the response's tokens under a judge
  kVerdict,     // log-odds of a judge's "yes" over "no" to a question about the response
};

struct RewardGradient {
  double reward = 0;  // R of the whole response
  int rows = 0;       // response tokens that the gradient was asked for
  int hidden_size = 0;
  std::vector<float> input_gradient;  // ∂R/∂x, [rows, hidden_size]
  // Only of kLikelihood, else null: the judge's log-probabilities that predicted rows [begin, end), [end − begin, V];
  // they add to the target side of the gradient at the one-hots.
  std::function<absl::StatusOr<std::vector<float>>(int begin, int end)> log_probs;
};

class RewardContext {
 public:
  virtual ~RewardContext() = default;

  // For a context of a model in this process that outlives the call it was opened for: what stops it from now on,
  // nothing where null. Others keep what they were opened with.
  virtual void set_stop(const StopToken* /*stop*/) {}

  // Ahead of the first call: gradients will be asked for at responses that were scored. What they want is then kept,
  // where there is room; numbers are the same without.
  virtual absl::Status ExpectGradients() { return absl::OkStatus(); }

  virtual absl::StatusOr<double> Score(absl::Span<const int32_t> response) = 0;

  // Of several responses, in their order: what Score gives, for less where they are run as one batch.
  virtual absl::StatusOr<std::vector<double>> ScoreAll(absl::Span<const absl::Span<const int32_t>> responses) = 0;

  // Gradient for response tokens [first, size); those before are constants. `first` < response.size(). `scored`: by the
  // last call of Score, whose pass then need not be run again. Numbers go by the arguments alone; with `scored` they
  // are the same but for rounding.
  virtual absl::StatusOr<RewardGradient> ScoreGradient(absl::Span<const int32_t> response, int first, bool scored) = 0;

  // Passes and tokens run for this context so far.
  virtual const ModelWork& work() const = 0;
};

class RewardModel {
 public:
  virtual ~RewardModel() = default;

  // OUT_OF_RANGE where the conversation and a response of that many tokens do not fit the model; INVALID_ARGUMENT where
  // the chat template refuses the conversation. `stop`, if given, ends calls of the context that wait, with its status;
  // it outlives the context and the gradients. `traceparent` is the request's, for a model in another process.
  virtual absl::StatusOr<std::unique_ptr<RewardContext>> Open(absl::Span<const ChatMessage> messages,
                                                              int max_response_tokens, const StopToken* stop = nullptr,
                                                              absl::string_view traceparent = "") const = 0;

  // E·g for rows of gradients at the input embeddings: [rows, hidden] → [rows, V].
  virtual absl::StatusOr<std::vector<float>> ProjectToVocabulary(absl::Span<const float> input_gradient,
                                                                 int rows) const = 0;

  // Token strings as in tokenizer.json, by id, vocabulary_size() of them; "" where no token has the id or another id
  // goes by the same string.
  virtual std::vector<std::string> TokenStrings() const = 0;
  virtual int vocabulary_size() const = 0;  // V: tokens that have a name and an embedding
  virtual int32_t pad_token_id() const = 0;
  virtual RewardKind kind() const = 0;
  // Whether it computes in another process: whoever waits for it can compute something else meanwhile.
  virtual bool remote() const { return false; }
  // Whether that process has been found to serve another model by now: calls fail with UNAVAILABLE, and only a
  // RewardModel made anew gets at the other. Once true, always.
  virtual bool replaced() const { return false; }
  virtual const std::string& name() const = 0;
  virtual ModelInfo info() const = 0;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REWARD_REWARD_MODEL_H_
