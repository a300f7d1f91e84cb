// What a caller asks for: conversation, strategy, limits. Plain structs; defaults are the documented defaults of the
// API.
//
//   ReasonRequest request;
//   request.messages = {{"user", "What is 2 + 3 × 4?"}};
//   request.strategy = NablaOptions{.refinement = {.learning_rate = 0.5}};
#ifndef NABLA_ENGINE_BASE_REQUEST_H_
#define NABLA_ENGINE_BASE_REQUEST_H_

#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "engine/text/chat_message.h"

namespace nabla {

// How a token is drawn from a row of logits. Order of the filters as in HF transformers: temperature, top-k, top-p.
struct SamplingOptions {
  double temperature = 0.7;  // ≥ 0; 0 takes the most likely token
  int top_k = 0;             // ≥ 0; keep the k most likely tokens; 0 keeps all
  double top_p = 1.0;        // (0, 1]; keep the smallest set of tokens whose probability reaches this
};

// Direct textual optimisation: gradient descent on the ahead tokens' logits (algorithm.md, "Refinement").
struct RefinementOptions {
  enum class Parameter { kLogits, kHidden };
  // Mirror descent takes G itself, z ← z − η·G: exponentiated gradient, the closed form of the paper's KL-regularised
  // objective. Needs kLogits. Sign takes the sign of the gradient.
  enum class Optimizer { kAdam, kMirrorDescent, kSign };
  enum class Anchor { kArgmax, kRollout };   // where G is taken: at the likeliest tokens, or at those rolled out
  Parameter parameter = Parameter::kLogits;  // what the optimiser moves: logits, or the hidden states behind them
  Optimizer optimizer = Optimizer::kAdam;
  Anchor anchor = Anchor::kArgmax;
  int iterations = 20;                   // ≥ 0; steps of the optimiser; 0 leaves the logits alone
  double learning_rate = 0.01;           // > 0; a step's size, decayed by a cosine
  double min_learning_rate_ratio = 0.1;  // [0, 1]; floor of the decay, as a share of learning_rate
  double likelihood_weight = 1e-3;       // λ ≥ 0
  double reward_weight = 1.0;            // ρ ≥ 0
  bool gradient_caching = true;          // recompute the gradient only after an argmax has changed
  bool update_postfix = false;           // move all ahead positions, not only the first
  // > 0 nats; a trust region: refined logits go back towards the language model's until the divergence KL(refined ‖
  // model) of a position is at most this; screening leaves out tokens whose −log p is above it. Unset: anywhere.
  std::optional<double> max_kl;
};

// Which ahead positions are worth refining: the first that every selector set here marks.
struct SelectorOptions {
  std::optional<double> max_confidence = 0.97;  // (0, 1]; marks positions with max softmax(z) ≤ this
  std::optional<double> min_entropy;            // ≥ 0 nats; marks positions with H(softmax z) ≥ this
  std::optional<double> min_gradient_norm;      // ≥ 0; marks positions with ‖G‖₂ ≥ this
};

struct GreedyOptions {};

struct SampleOptions {
  SamplingOptions sampling;
};

// The paper's loop (algorithm.md, "The loop"). Needs a reward model.
struct NablaOptions {
  SamplingOptions rollout = {.temperature = 0.0};   // draws the tokens of rollouts
  SamplingOptions resample = {.temperature = 0.0};  // draws the token at a refined position
  SelectorOptions selectors;
  RefinementOptions refinement;
  // 0: the paper's way, a token drawn from refined logits. Else so many tokens, the best by the gradient, or by the
  // refined logits with kMirrorDescent, are scored as the last of the text so far, and only the best of them is rolled
  // out, if its score is above the current token's.
  int screening_candidates = 0;
  bool rejection_sampling = true;  // off: every revision is accepted
  // A revision is accepted if it raises reward + acceptance_likelihood_weight · log-likelihood of the response, by the
  // language model, by more than min_reward_gain. Both ≥ 0.
  double min_reward_gain = 0;
  double acceptance_likelihood_weight = 0;
  // Whether a revision must raise the reward of every guard model of the engine as well; kIfAny: where it has some.
  enum class Unanimity { kNo, kIfAny, kYes };
  Unanimity unanimous = Unanimity::kNo;
  std::optional<double> target_reward;  // once the response in hand has this reward, it is committed as it is
  int max_rollouts = 8;                 // ≥ 1, the first one included
  // ≥ 1; so many times over the response, as long as there are rollouts left and the last time has changed something:
  // what was good in front of one text may not be in front of another. Nothing is committed before the last. Above 1,
  // gradients are taken at the rolled-out tokens, whatever refinement.anchor says.
  int max_sweeps = 1;
  bool continue_without_reward =
      false;  // should the reward model be lost: commit the rollout in hand instead of failing
};

// Settings of NablaOptions that are ours: the paper's are the defaults. Eight candidates screened by mirror descent,
// and revisions that are to pay in likelihood and with guard models as well: more accurate than the paper's for fewer
// model calls on the embedded models, and not below greedy where the reward does not rank (README, `./dev eval
// guards`).
NablaOptions GuardedNabla();

// Independent samples, of which the one that the reward model likes best becomes the answer. Needs a reward model.
struct BestOfNOptions {
  int candidates = 8;  // ≥ 1; the first is what sample gives with the same seed
  SamplingOptions sampling;
  // Rewards of candidates with the same final answer are added up, as shares of a softmax over all candidates, and the
  // best with the answer of the largest sum is taken (weighted best-of-N, arXiv 2206.02336).
  bool weighted = false;
};

// Independent samples, of which the first with the most frequent final answer becomes the answer (arXiv 2203.11171).
struct SelfConsistencyOptions {
  int candidates = 8;  // ≥ 1; the first is what sample gives with the same seed
  SamplingOptions sampling;
};

// Beam search over steps, guided by the reward of the text so far (arXiv 2408.03314). Needs a reward model.
struct BeamOptions {
  int width = 4;                   // ≥ 1; hypotheses kept behind every step
  int expansions = 4;              // ≥ 1; next steps sampled behind each
  int subtrees = 1;                // ≥ 1, divides width; hypotheses of different subtrees do not compete
  std::string separator = "\n\n";  // not empty; a step ends with the token that completes it, or with the response
  SamplingOptions sampling;
};

// A few responses behind each of several first steps, then the rest behind the step whose best response is expected to
// be the best, by the upper tail of its rewards (arXiv 2602.01485). Needs a reward model.
struct TailGuidedOptions {
  int states = 4;                  // ≥ 1; first steps
  int probes = 4;                  // ≥ 2; responses behind each
  int candidates = 32;             // ≥ states × probes; responses in all
  std::string separator = "\n\n";  // as in BeamOptions
  SamplingOptions sampling;
};

// REINFORCE on the hidden states behind the first part of the response, for rewards without a gradient (LatentSeek,
// arXiv 2505.13308). Every rollout draws that part from the states as they are, goes on behind it, and moves the states
// by its reward, less the mean and over the deviation of the rewards so far. Needs a reward model.
struct PolicyGradientOptions {
  double fraction = 0.2;                            // (0, 1]; share of the first rollout's tokens whose states move
  int max_rollouts = 8;                             // ≥ 1, the first one included
  double learning_rate = 0.03;                      // > 0; Adam's step on the states
  SamplingOptions rollout = {.temperature = 0.0};   // draws the tokens of rollouts
  SamplingOptions resample = {.temperature = 1.0};  // draws the first part's tokens from the moved states
  std::optional<double> target_reward;              // once a response has this reward, it is the answer
};

// Steps drafted by a small model, of which the reward model keeps the best; where even that takes too much off the
// reward, the language model writes the step (arXiv 2501.19324, 2506.15733). Needs a reward model and a draft model.
struct SpeculativeCandidatesOptions {
  int candidates = 4;              // ≥ 1; drafts of a step
  double max_reward_drop = 1;      // in the reward model's own scale; a drafted step may lower the reward by so much
  std::string separator = "\n\n";  // as in BeamOptions
  SamplingOptions sampling;        // of both models
};

using StrategyOptions =
    std::variant<GreedyOptions, SampleOptions, NablaOptions, BestOfNOptions, SelfConsistencyOptions, BeamOptions,
                 TailGuidedOptions, PolicyGradientOptions, SpeculativeCandidatesOptions>;

// Names of the alternatives of StrategyOptions, in their order.
inline constexpr const char* kStrategyNames[] = {"greedy",      "sample",           "nabla",
                                                 "best_of_n",   "self_consistency", "beam",
                                                 "tail_guided", "policy_gradient",  "speculative_candidates"};
static_assert(std::size(kStrategyNames) == std::variant_size_v<StrategyOptions>);

inline const char* StrategyName(const StrategyOptions& options) { return kStrategyNames[options.index()]; }

// Whether the strategy cannot run without a reward model, or without a draft model, or without guard models.
bool NeedsReward(const StrategyOptions& options);
bool NeedsDraftModel(const StrategyOptions& options);
bool NeedsGuardModels(const StrategyOptions& options);

// A number of responses, and the field or fields of the request that say so.
struct ResponseCount {
  int64_t count = 1;
  std::string field;
};

// How many responses the strategy rolls out, or tries, at most; and how many of them it holds at once.
ResponseCount MostRollouts(const StrategyOptions& options);
int64_t MostHeld(const StrategyOptions& options);

// Which requests leave the queue first.
enum class Priority { kLow = 0, kNormal = 1, kHigh = 2 };

struct ReasonRequest {
  std::vector<ChatMessage> messages;  // exactly one of messages and prompt is given
  std::optional<std::string> prompt;  // raw text, no chat template; the reward model sees it as one user turn
  StrategyOptions strategy = NablaOptions{};
  int max_new_tokens = 256;       // ≥ 1
  std::vector<std::string> stop;  // generation ends behind the first of these; it stays part of the text
  uint64_t seed = 0;
  Priority priority = Priority::kNormal;
  std::optional<int64_t> max_model_calls;  // budget in the paper's unit; once spent, the current rollout is committed
  std::string traceparent;  // W3C trace context that calls of other services on its behalf belong to; empty: none
};

// INVALID_ARGUMENT naming the field ("nabla.refinement.learning_rate: must be greater than 0, got -1"), or OK.
absl::Status Validate(const ReasonRequest& request);

}  // namespace nabla

#endif  // NABLA_ENGINE_BASE_REQUEST_H_
