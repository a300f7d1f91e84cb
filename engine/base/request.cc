#include "engine/base/request.h"

#include <cmath>
#include <iterator>
#include <set>

#include "absl/strings/str_cat.h"

namespace nabla {
namespace {

constexpr int kMaxStopSequences = 16;
constexpr double kMaxTemperature = 100;
constexpr int kMaxIterations = 1000;
constexpr int kMaxCandidates = 1000;
constexpr size_t kMaxEcho = 64;  // bytes of a client's own text in an error

// "field: must be WHAT, got VALUE".
template <typename Value>
absl::Status Require(bool holds, const std::string& field, const char* what, const Value& value) {
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
                     finite_from_zero(options.reward_weight, "reward_weight")});
}

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

const char* StrategyName(const StrategyOptions& options) {
  static constexpr const char* kNames[] = {"greedy", "sample", "nabla", "best_of_n", "self_consistency"};
  static_assert(std::size(kNames) == std::variant_size_v<StrategyOptions>);
  return kNames[options.index()];
}

int CandidateCount(const StrategyOptions& options) {
  if (const auto* best_of_n = std::get_if<BestOfNOptions>(&options)) return best_of_n->candidates;
  const auto* self_consistency = std::get_if<SelfConsistencyOptions>(&options);
  return self_consistency != nullptr ? self_consistency->candidates : 1;
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
    if (request.stop[i].empty()) return absl::InvalidArgumentError(absl::StrCat("stop[", i, "]: must not be empty"));
  }
  if (const auto* sample = std::get_if<SampleOptions>(&request.strategy))
    return ValidateSampling(sample->sampling, "sample.sampling");
  if (const auto* best_of_n = std::get_if<BestOfNOptions>(&request.strategy)) {
    return FirstError(
        {ValidateSampling(best_of_n->sampling, "best_of_n.sampling"),
         Require(best_of_n->candidates >= 1, "best_of_n.candidates", "1 or more", best_of_n->candidates)});
  }
  if (const auto* self_consistency = std::get_if<SelfConsistencyOptions>(&request.strategy)) {
    return FirstError({ValidateSampling(self_consistency->sampling, "self_consistency.sampling"),
                       Require(self_consistency->candidates >= 1, "self_consistency.candidates", "1 or more",
                               self_consistency->candidates)});
  }
  if (const auto* nabla = std::get_if<NablaOptions>(&request.strategy)) {
    return FirstError({ValidateSampling(nabla->rollout, "nabla.rollout"),
                       ValidateSampling(nabla->resample, "nabla.resample"), ValidateSelectors(nabla->selectors),
                       ValidateRefinement(nabla->refinement),
                       Require(nabla->screening_candidates >= 0 && nabla->screening_candidates <= kMaxCandidates,
                               "nabla.screening_candidates", "0 to 1000", nabla->screening_candidates),
                       Require(std::isfinite(nabla->min_reward_gain) && nabla->min_reward_gain >= 0,
                               "nabla.min_reward_gain", "0 or more", nabla->min_reward_gain),
                       Require(nabla->max_rollouts >= 1, "nabla.max_rollouts", "1 or more", nabla->max_rollouts)});
  }
  return absl::OkStatus();
}

}  // namespace nabla
