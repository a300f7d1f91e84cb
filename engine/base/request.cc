#include "engine/base/request.h"

#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

constexpr int kMaxStopSequences = 16;
constexpr size_t kMaxStopBytes = 256;  // looked for behind every token, by the thread that all requests share
constexpr double kMaxTemperature = 100;
constexpr int kMaxIterations = 1000;
constexpr int kMaxCandidates = 1000;
constexpr size_t kMaxSeparatorBytes = 64;
constexpr size_t kMaxEcho = 64;  // bytes of a client's own text in an error

// "field: must be WHAT, got VALUE".
template <typename Value>
absl::Status Require(bool holds, const std::string& field, absl::string_view what, const Value& value) {
  if (holds) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": must be ", what, ", got ", value));
}

// The text as an error may repeat it: its first characters, whole ones.
std::string Echo(const std::string& text) {
  if (text.size() <= kMaxEcho) return text;
  size_t end = kMaxEcho;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // inside a UTF-8 sequence
  return text.substr(0, end) + "…";
}

// The first error of a list.
absl::Status FirstError(std::initializer_list<absl::Status> statuses) {
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

bool Between(double value, double low, double high) { return value >= low && value <= high; }  // false for NaN

absl::Status ValidateSampling(const SamplingOptions& options, const std::string& field) {
  return FirstError({Require(Between(options.temperature, 0, kMaxTemperature), field + ".temperature", "from 0 to 100",
                             options.temperature),
                     Require(options.top_k >= 0, field + ".top_k", "0 (all) or more", options.top_k),
                     Require(options.top_p > 0 && options.top_p <= 1, field + ".top_p", "greater than 0 and at most 1",
                             options.top_p)});
}

absl::Status ValidateSelectors(const SelectorOptions& options) {
  const std::string field = "nabla.selectors.";
  if (options.max_confidence && !(*options.max_confidence > 0 && *options.max_confidence <= 1)) {
    return Require(false, field + "max_confidence", "greater than 0 and at most 1", *options.max_confidence);
  }
  if (options.min_entropy && !(*options.min_entropy >= 0))
    return Require(false, field + "min_entropy", "0 or more", *options.min_entropy);
  if (options.min_gradient_norm && !(*options.min_gradient_norm >= 0)) {
    return Require(false, field + "min_gradient_norm", "0 or more", *options.min_gradient_norm);
  }
  return absl::OkStatus();
}

absl::Status ValidateRefinement(const RefinementOptions& options) {
  const std::string field = "nabla.refinement.";
  const auto finite_from_zero = [&](double value, const char* name) {
    return Require(std::isfinite(value) && value >= 0, field + name, "0 or more", value);
  };
  return FirstError({Require(Between(options.iterations, 0, kMaxIterations), field + "iterations", "from 0 to 1000",
                             options.iterations),
                     Require(std::isfinite(options.learning_rate) && options.learning_rate > 0, field + "learning_rate",
                             "greater than 0", options.learning_rate),
                     Require(Between(options.min_learning_rate_ratio, 0, 1), field + "min_learning_rate_ratio",
                             "from 0 to 1", options.min_learning_rate_ratio),
                     finite_from_zero(options.likelihood_weight, "likelihood_weight"),
                     finite_from_zero(options.reward_weight, "reward_weight"),
                     Require(options.optimizer != RefinementOptions::Optimizer::kMirrorDescent ||
                                 options.parameter == RefinementOptions::Parameter::kLogits,
                             field + "parameter", "LOGITS with MIRROR_DESCENT", "HIDDEN"),
                     Require(!options.max_kl || (std::isfinite(*options.max_kl) && *options.max_kl > 0),
                             field + "max_kl", "greater than 0", options.max_kl.value_or(0))});
}

absl::Status ValidateSeparator(const std::string& separator, const std::string& field) {
  NABLA_RETURN_IF_ERROR(Require(!separator.empty(), field, "some text", "none"));
  return Require(separator.size() <= kMaxSeparatorBytes, field, "at most 64 bytes", separator.size());
}

// One overload a strategy that has options: the first error of them.
struct StrategyValidator {
  absl::Status operator()(const GreedyOptions&) const { return absl::OkStatus(); }
  absl::Status operator()(const SampleOptions& options) const {
    return ValidateSampling(options.sampling, "sample.sampling");
  }
  absl::Status operator()(const NablaOptions& options) const {
    return FirstError(
        {ValidateSampling(options.rollout, "nabla.rollout"), ValidateSampling(options.resample, "nabla.resample"),
         ValidateSelectors(options.selectors), ValidateRefinement(options.refinement),
         Require(options.screening_candidates >= 0 && options.screening_candidates <= kMaxCandidates,
                 "nabla.screening_candidates", "0 to 1000", options.screening_candidates),
         Require(std::isfinite(options.min_reward_gain) && options.min_reward_gain >= 0, "nabla.min_reward_gain",
                 "0 or more", options.min_reward_gain),
         Require(std::isfinite(options.acceptance_likelihood_weight) && options.acceptance_likelihood_weight >= 0,
                 "nabla.acceptance_likelihood_weight", "0 or more", options.acceptance_likelihood_weight),
         Require(!options.target_reward || std::isfinite(*options.target_reward), "nabla.target_reward", "finite",
                 options.target_reward.value_or(0)),
         Require(options.max_rollouts >= 1, "nabla.max_rollouts", "1 or more", options.max_rollouts),
         Require(options.max_sweeps >= 1, "nabla.max_sweeps", "1 or more", options.max_sweeps),
         Require(options.rejection_sampling || options.unanimous != NablaOptions::Unanimity::kYes, "nabla.unanimous",
                 "false where rejection_sampling is", "true")});
  }
  absl::Status operator()(const BestOfNOptions& options) const {
    return FirstError({ValidateSampling(options.sampling, "best_of_n.sampling"),
                       Require(options.candidates >= 1, "best_of_n.candidates", "1 or more", options.candidates)});
  }
  absl::Status operator()(const SelfConsistencyOptions& options) const {
    return FirstError(
        {ValidateSampling(options.sampling, "self_consistency.sampling"),
         Require(options.candidates >= 1, "self_consistency.candidates", "1 or more", options.candidates)});
  }
  absl::Status operator()(const BeamOptions& options) const {
    return FirstError({ValidateSampling(options.sampling, "beam.sampling"),
                       ValidateSeparator(options.separator, "beam.separator"),
                       Require(options.width >= 1, "beam.width", "1 or more", options.width),
                       Require(options.expansions >= 1, "beam.expansions", "1 or more", options.expansions),
                       Require(options.subtrees >= 1 && options.width % options.subtrees == 0, "beam.subtrees",
                               absl::StrCat("a divisor of beam.width (", options.width, ")"), options.subtrees)});
  }
  absl::Status operator()(const PolicyGradientOptions& options) const {
    const std::string field = "policy_gradient.";
    return FirstError({ValidateSampling(options.rollout, field + "rollout"),
                       ValidateSampling(options.resample, field + "resample"),
                       Require(options.fraction > 0 && options.fraction <= 1, field + "fraction",
                               "greater than 0 and at most 1", options.fraction),
                       Require(std::isfinite(options.learning_rate) && options.learning_rate > 0,
                               field + "learning_rate", "greater than 0", options.learning_rate),
                       Require(!options.target_reward || std::isfinite(*options.target_reward), field + "target_reward",
                               "finite", options.target_reward.value_or(0)),
                       Require(options.max_rollouts >= 1, field + "max_rollouts", "1 or more", options.max_rollouts)});
  }
  absl::Status operator()(const SpeculativeCandidatesOptions& options) const {
    const std::string field = "speculative_candidates.";
    return FirstError({ValidateSampling(options.sampling, field + "sampling"),
                       ValidateSeparator(options.separator, field + "separator"),
                       Require(options.candidates >= 1, field + "candidates", "1 or more", options.candidates),
                       Require(std::isfinite(options.max_reward_drop), field + "max_reward_drop", "finite",
                               options.max_reward_drop)});
  }
  absl::Status operator()(const TailGuidedOptions& options) const {
    const int64_t probes = int64_t{options.states} * options.probes;
    return FirstError({ValidateSampling(options.sampling, "tail_guided.sampling"),
                       ValidateSeparator(options.separator, "tail_guided.separator"),
                       Require(options.states >= 1, "tail_guided.states", "1 or more", options.states),
                       Require(options.probes >= 2, "tail_guided.probes", "2 or more", options.probes),
                       Require(options.candidates >= probes, "tail_guided.candidates",
                               absl::StrCat("at least states × probes (", probes, ")"), options.candidates)});
  }
};

struct RolloutCounter {
  ResponseCount operator()(const SpeculativeCandidatesOptions& options) const {
    return {options.candidates, "speculative_candidates.candidates"};
  }
  ResponseCount operator()(const PolicyGradientOptions& options) const {
    return {options.max_rollouts, "policy_gradient.max_rollouts"};
  }
  ResponseCount operator()(const GreedyOptions&) const { return {}; }
  ResponseCount operator()(const SampleOptions&) const { return {}; }
  ResponseCount operator()(const NablaOptions& options) const { return {options.max_rollouts, "nabla.max_rollouts"}; }
  ResponseCount operator()(const BestOfNOptions& options) const { return {options.candidates, "best_of_n.candidates"}; }
  ResponseCount operator()(const SelfConsistencyOptions& options) const {
    return {options.candidates, "self_consistency.candidates"};
  }
  ResponseCount operator()(const BeamOptions& options) const {
    return {int64_t{options.width} * options.expansions, "beam.width × beam.expansions"};
  }
  ResponseCount operator()(const TailGuidedOptions& options) const {
    return {options.candidates, "tail_guided.candidates"};
  }
};

absl::Status ValidateMessages(const ReasonRequest& request) {
  if (request.prompt) {
    if (!request.messages.empty())
      return absl::InvalidArgumentError("prompt: must be left out where messages are given; send one of the two");
    return request.prompt->empty() ? absl::InvalidArgumentError("prompt: must not be empty") : absl::OkStatus();
  }
  if (request.messages.empty())
    return absl::InvalidArgumentError("messages: must not be empty; send at least one user message");
  static const auto* const kRoles = new std::set<std::string>{"system", "user", "assistant"};
  for (size_t i = 0; i < request.messages.size(); ++i) {
    const std::string field = absl::StrCat("messages[", i, "]");
    if (kRoles->count(request.messages[i].role) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(field, ".role: must be system, user or assistant, got \"",
                                                     Echo(request.messages[i].role), "\""));
    }
    if (request.messages[i].content.empty())
      return absl::InvalidArgumentError(absl::StrCat(field, ".content: must not be empty"));
  }
  return absl::OkStatus();
}

}  // namespace

NablaOptions GuardedNabla() {
  return {.refinement = {.optimizer = RefinementOptions::Optimizer::kMirrorDescent, .learning_rate = 10},
          .screening_candidates = 8,
          .acceptance_likelihood_weight = 0.3,
          .unanimous = NablaOptions::Unanimity::kIfAny};
}

ResponseCount MostRollouts(const StrategyOptions& options) { return std::visit(RolloutCounter(), options); }

bool NeedsDraftModel(const StrategyOptions& options) {
  return std::holds_alternative<SpeculativeCandidatesOptions>(options);
}

bool NeedsGuardModels(const StrategyOptions& options) {
  const auto* nabla = std::get_if<NablaOptions>(&options);
  return nabla != nullptr && nabla->unanimous == NablaOptions::Unanimity::kYes;
}

bool NeedsReward(const StrategyOptions& options) {
  return !std::holds_alternative<GreedyOptions>(options) && !std::holds_alternative<SampleOptions>(options) &&
         !std::holds_alternative<SelfConsistencyOptions>(options);
}

int64_t MostHeld(const StrategyOptions& options) {
  if (std::holds_alternative<NablaOptions>(options)) return 2;           // the one in hand and the one set aside
  if (std::holds_alternative<PolicyGradientOptions>(options)) return 3;  // the first, the best and the one in hand
  const int64_t rollouts = MostRollouts(options).count;
  if (NeedsDraftModel(options)) return rollouts + 2;  // what each of the two models wrote last
  const auto* tail_guided = std::get_if<TailGuidedOptions>(&options);
  return tail_guided != nullptr ? rollouts + tail_guided->states : rollouts;
}

absl::Status Validate(const ReasonRequest& request) {
  absl::Status status = FirstError(
      {ValidateMessages(request),
       Require(request.max_new_tokens >= 1, "max_new_tokens", "1 or more", request.max_new_tokens),
       Require(request.stop.size() <= kMaxStopSequences, "stop", "at most 16 sequences", request.stop.size()),
       Require(!request.max_model_calls || *request.max_model_calls >= 1, "max_model_calls", "1 or more",
               request.max_model_calls.value_or(0))});
  if (!status.ok()) return status;
  for (size_t i = 0; i < request.stop.size(); ++i) {
    const std::string field = absl::StrCat("stop[", i, "]");
    if (request.stop[i].empty()) return absl::InvalidArgumentError(absl::StrCat(field, ": must not be empty"));
    NABLA_RETURN_IF_ERROR(
        Require(request.stop[i].size() <= kMaxStopBytes, field, "at most 256 bytes", request.stop[i].size()));
  }
  return std::visit(StrategyValidator(), request.strategy);
}

}  // namespace nabla
