#include "client/cli/request_flags.h"

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

// Flags that only some strategies look at.
struct FlagUse {
  const char* flag;
  std::vector<std::string> strategies;
};

const char* const kNablaFlags[] = {"max_rollouts",
                                   "iterations",
                                   "learning_rate",
                                   "parameter",
                                   "update_postfix",
                                   "likelihood_weight",
                                   "reward_weight",
                                   "max_confidence",
                                   "min_entropy",
                                   "min_gradient_norm",
                                   "screening_candidates",
                                   "rejection_sampling",
                                   "min_reward_gain",
                                   "continue_without_reward",
                                   "optimizer",
                                   "anchor",
                                   "max_kl",
                                   "acceptance_likelihood_weight",
                                   "target_reward",
                                   "unanimous",
                                   "max_sweeps",
                                   "preset"};

// Flags that are the field of the same name in the options of every strategy that has it.
const char* const kOptionFlags[] = {"candidates", "weighted", "width",     "expansions", "subtrees",
                                    "states",     "probes",   "separator", "fraction",   "max_reward_drop"};

// The fields of a request that hold a strategy's options, by its name.
const google::protobuf::OneofDescriptor& Strategies() {
  return *v1::ReasonRequest::descriptor()->FindOneofByName("strategy");
}

std::vector<std::string> StrategiesWith(const char* option) {
  std::vector<std::string> names;
  for (int i = 0; i < Strategies().field_count(); ++i) {
    const google::protobuf::FieldDescriptor* strategy = Strategies().field(i);
    if (strategy->message_type()->FindFieldByName(option) != nullptr) names.push_back(strategy->name());
  }
  return names;
}

const std::vector<FlagUse>& FlagUses() {
  static const auto* const uses = [] {
    auto* all = new std::vector<FlagUse>();
    for (const char* flag : kNablaFlags) {
      std::vector<std::string> users = StrategiesWith(flag);
      if (std::find(users.begin(), users.end(), "nabla") == users.end()) users.insert(users.begin(), "nabla");
      all->push_back({flag, users});
    }
    for (const char* flag : kOptionFlags) all->push_back({flag, StrategiesWith(flag)});
    std::vector<std::string> sampling = StrategiesWith("sampling");
    for (const std::string& strategy : StrategiesWith("rollout")) sampling.push_back(strategy);
    for (const char* flag : {"temperature", "top_k", "top_p"}) all->push_back({flag, sampling});
    return all;
  }();
  return *uses;
}

// "a, b or c".
std::string AnyOf(const std::vector<std::string>& names) {
  std::string text = names[0];
  for (size_t i = 1; i < names.size(); ++i) absl::StrAppend(&text, i + 1 < names.size() ? ", " : " or ", names[i]);
  return text;
}

// Sets the enum field of the flag's name to the value of that name in lower case; empty: not given.
absl::Status SetChoice(google::protobuf::Message* options, const std::string& flag, const std::string& choice) {
  if (choice.empty()) return absl::OkStatus();
  const google::protobuf::FieldDescriptor* field = options->GetDescriptor()->FindFieldByName(flag);
  std::vector<std::string> choices;
  for (int i = 1; i < field->enum_type()->value_count(); ++i) {  // 0 is what is not specified
    const google::protobuf::EnumValueDescriptor* value = field->enum_type()->value(i);
    choices.push_back(absl::AsciiStrToLower(value->name()));
    if (choices.back() != choice) continue;
    options->GetReflection()->SetEnum(options, field, value);
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": must be ", AnyOf(choices), ", got \"", choice, "\""));
}

// Sets the field of that name, where the options have one and a value was given.
template <typename Value>
void SetOption(google::protobuf::Message* options, const char* name, const std::optional<Value>& value) {
  const google::protobuf::FieldDescriptor* field = options->GetDescriptor()->FindFieldByName(name);
  if (field == nullptr || !value.has_value()) return;
  const google::protobuf::Reflection* reflection = options->GetReflection();
  if constexpr (std::is_same_v<Value, bool>) {
    reflection->SetBool(options, field, *value);
  } else if constexpr (std::is_same_v<Value, double>) {
    reflection->SetDouble(options, field, *value);
  } else if constexpr (std::is_same_v<Value, uint32_t>) {
    reflection->SetUInt32(options, field, *value);
  } else {
    reflection->SetString(options, field, *value);
  }
}

}  // namespace

std::string RequestFlags::StrategyNames() {
  std::vector<std::string> names;
  for (int i = 0; i < Strategies().field_count(); ++i) names.push_back(Strategies().field(i)->name());
  return AnyOf(names);
}

std::string RequestFlags::StrategyHelp() {
  return absl::StrCat(StrategyNames(),
                      " (default: nabla if one of its flags is given or the server has a reward model, else greedy).");
}

void RequestFlags::AddTo(FlagSet* flags) {
  flags->Add("system", &system_, "System message ahead of the question.");
  flags->Add("max_new_tokens", &max_new_tokens_, "Longest answer, in tokens (default 256).");
  flags->Add("stop", &stop_, "End the answer behind this text of up to 256 bytes; may be given up to 16 times.");
  flags->Add("seed", &seed_,
             "Seed; the server draws one if left out (nabla eval: the number of the question, from 1).");
  flags->Add("max_model_calls", &max_model_calls_,
             "Budget in model calls: 1 a token, 4 a gradient step, 2 an acceptance test.");
  flags->Add("priority", &priority_, "Place in the queue: low, normal or high (default normal).");
  flags->Add("temperature", &temperature_, "0 takes the most likely token (default: sample 0.7, nabla's rollouts 0).");
  flags->Add("top_k", &top_k_, "Draw from the k most likely tokens; 0 keeps all (default 0).");
  flags->Add("top_p", &top_p_, "Draw from the fewest tokens that hold this probability (default 1).");
  flags->Add("candidates", &candidates_,
             "best_of_n, self_consistency: samples (default 8); tail_guided: responses in all (default 32); "
             "speculative_candidates: drafts of a step (default 4).");
  flags->Add("max_reward_drop", &max_reward_drop_,
             "speculative_candidates: how much a drafted step may take off the reward (default 1).");
  flags->Add("weighted", &weighted_, "best_of_n: add up the rewards of candidates with the same final answer.");
  flags->Add("width", &width_, "beam: hypotheses kept behind every step (default 4).");
  flags->Add("expansions", &expansions_, "beam: steps sampled behind each of them (default 4).");
  flags->Add("subtrees", &subtrees_, "beam: groups of hypotheses that do not compete, a divisor of width (default 1).");
  flags->Add("states", &states_, "tail_guided: first steps to be tried (default 4).");
  flags->Add("probes", &probes_, "tail_guided: responses that try each (default 4).");
  flags->Add("separator", &separator_,
             "beam, tail_guided, speculative_candidates: text that ends a step (default: an empty line).");
  flags->Add(
      "preset", &preset_,
      "nabla: what its other flags default to: paper, as stated with each, or guarded, screening 8 candidates by "
      "mirror descent with a step of 10, likelihood in acceptance with a weight of 0.3, and unanimous where there are "
      "guard models (default paper).");
  flags->Add("max_rollouts", &max_rollouts_, "nabla, policy_gradient: rollouts, the first one included (default 8).");
  flags->Add("fraction", &fraction_,
             "policy_gradient: share of the first rollout whose hidden states move (default 0.2).");
  flags->Add("iterations", &iterations_, "nabla: gradient steps a refinement (default 20).");
  flags->Add("learning_rate", &learning_rate_, "nabla, policy_gradient: step of the optimiser (default 0.01, 0.03).");
  flags->Add("parameter", &parameter_, "nabla: what the gradient moves, logits or hidden (default logits).");
  flags->Add("optimizer", &optimizer_, "nabla: adam, mirror_descent or sign (default adam).");
  flags->Add(
      "anchor", &anchor_,
      "nabla: take gradients at the likeliest tokens, argmax, or at those rolled out, rollout (default argmax).");
  flags->Add("max_kl", &max_kl_,
             "nabla: how far, in nats, a refined position may go from the language model (default: anywhere).");
  flags->Add("update_postfix", &update_postfix_, "nabla: move all positions of the tail, not only its first.");
  flags->Add("likelihood_weight", &likelihood_weight_,
             "nabla: weight of the language model's log-likelihood (default 0.001).");
  flags->Add("reward_weight", &reward_weight_, "nabla: weight of the reward (default 1).");
  flags->Add("max_confidence", &max_confidence_,
             "nabla: refine where the largest probability is at most this (default 0.97).");
  flags->Add("min_entropy", &min_entropy_, "nabla: refine where the entropy is at least this, in nats.");
  flags->Add("min_gradient_norm", &min_gradient_norm_, "nabla: refine where the gradient's norm is at least this.");
  flags->Add("screening_candidates", &screening_candidates_,
             "nabla: score so many tokens, the best by the gradient, and roll out the best of them; 0 draws one from "
             "refined logits (default 0).");
  flags->Add("rejection_sampling", &rejection_sampling_,
             "nabla: keep only revisions that raise the reward (default true).");
  flags->Add("min_reward_gain", &min_reward_gain_,
             "nabla: keep only revisions that raise the reward by more than this (default 0).");
  flags->Add("acceptance_likelihood_weight", &acceptance_likelihood_weight_,
             "nabla: revisions are to raise the reward plus so much of the log-likelihood (default 0).");
  flags->Add("unanimous", &unanimous_, "nabla: revisions are to raise the reward of every guard model as well.");
  flags->Add("max_sweeps", &max_sweeps_,
             "nabla: times over the answer while rollouts are left and something changes (default 1).");
  flags->Add("target_reward", &target_reward_,
             "nabla, policy_gradient: stop revising at this reward (default: never).");
  flags->Add("continue_without_reward", &continue_without_reward_,
             "nabla: should the reward model be lost, take the answer as it stands instead of failing.");
}

absl::StatusOr<v1::ReasonRequest> RequestFlags::Request(const std::string& strategy,
                                                        const std::string& question) const {
  v1::Message user;
  user.set_role("user");
  user.set_content(question);
  return Request(strategy, std::vector<v1::Message>{user});
}

absl::StatusOr<v1::ReasonRequest> RequestFlags::Request(const std::string& strategy,
                                                        const std::vector<v1::Message>& messages) const {
  v1::ReasonRequest request;
  if (!system_.empty()) {
    v1::Message* system = request.add_messages();
    system->set_role("system");
    system->set_content(system_);
  }
  for (const v1::Message& message : messages) *request.add_messages() = message;
  if (!strategy.empty()) NABLA_RETURN_IF_ERROR(FillStrategy(strategy, &request));
  if (max_new_tokens_.has_value()) request.set_max_new_tokens(*max_new_tokens_);
  if (seed_.has_value()) request.set_seed(*seed_);
  if (max_model_calls_.has_value()) request.set_max_model_calls(*max_model_calls_);
  for (const std::string& stop : stop_) request.add_stop(stop);
  if (priority_ == "low") {
    request.set_priority(v1::PRIORITY_LOW);
  } else if (priority_ == "normal") {
    request.set_priority(v1::PRIORITY_NORMAL);
  } else if (priority_ == "high") {
    request.set_priority(v1::PRIORITY_HIGH);
  } else if (!priority_.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--priority: must be low, normal or high, got \"", priority_, "\""));
  }
  return request;
}

bool RequestFlags::GivesNablaOptions(const FlagSet& flags) {
  return std::any_of(std::begin(kNablaFlags), std::end(kNablaFlags),
                     [&](const char* flag) { return flags.WasGiven(flag); });
}

absl::StatusOr<std::string> RequestFlags::Strategy(const FlagSet& flags, const std::string& given) {
  const std::string strategy = given.empty() && GivesNablaOptions(flags) ? "nabla" : given;
  NABLA_RETURN_IF_ERROR(CheckUsed(flags, {strategy}));
  return strategy;
}

absl::Status RequestFlags::CheckUsed(const FlagSet& flags, const std::vector<std::string>& strategies) {
  for (const auto& [flag, users] : FlagUses()) {
    const bool used = std::any_of(strategies.begin(), strategies.end(), [&users = users](const std::string& strategy) {
      return std::find(users.begin(), users.end(), strategy) != users.end();
    });
    if (flags.WasGiven(flag) && !used) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag, ": has no effect without the strategy ", AnyOf(users)));
    }
  }
  return absl::OkStatus();
}

void RequestFlags::FillSampling(v1::Sampling* sampling) const {
  if (temperature_.has_value()) sampling->set_temperature(*temperature_);
  if (top_k_.has_value()) sampling->set_top_k(*top_k_);
  if (top_p_.has_value()) sampling->set_top_p(*top_p_);
}

absl::Status RequestFlags::FillStrategy(const std::string& name, v1::ReasonRequest* request) const {
  const google::protobuf::FieldDescriptor* strategy = v1::ReasonRequest::descriptor()->FindFieldByName(name);
  if (strategy == nullptr || strategy->containing_oneof() != &Strategies()) {
    return absl::InvalidArgumentError(absl::StrCat("--strategy: must be ", StrategyNames(), ", got \"", name, "\""));
  }
  google::protobuf::Message* options = request->GetReflection()->MutableMessage(request, strategy);
  SetOption(options, "candidates", candidates_);
  SetOption(options, "weighted", weighted_);
  SetOption(options, "width", width_);
  SetOption(options, "expansions", expansions_);
  SetOption(options, "subtrees", subtrees_);
  SetOption(options, "states", states_);
  SetOption(options, "probes", probes_);
  SetOption(options, "separator", separator_);
  SetOption(options, "fraction", fraction_);
  SetOption(options, "max_reward_drop", max_reward_drop_);
  SetOption(options, "learning_rate", learning_rate_);
  SetOption(options, "max_rollouts", max_rollouts_);
  SetOption(options, "target_reward", target_reward_);
  for (const char* name : {"sampling", "rollout"}) {
    const google::protobuf::FieldDescriptor* sampling = options->GetDescriptor()->FindFieldByName(name);
    if (sampling == nullptr || !HasSampling()) continue;
    FillSampling(static_cast<v1::Sampling*>(options->GetReflection()->MutableMessage(options, sampling)));
  }
  return name == "nabla" ? FillNabla(request->mutable_nabla()) : absl::OkStatus();
}

absl::Status RequestFlags::FillNabla(v1::NablaOptions* options) const {
  if (max_confidence_.has_value()) options->mutable_selectors()->set_max_confidence(*max_confidence_);
  if (min_entropy_.has_value()) options->mutable_selectors()->set_min_entropy(*min_entropy_);
  if (min_gradient_norm_.has_value()) options->mutable_selectors()->set_min_gradient_norm(*min_gradient_norm_);
  SetOption(options, "screening_candidates", screening_candidates_);
  SetOption(options, "rejection_sampling", rejection_sampling_);
  SetOption(options, "min_reward_gain", min_reward_gain_);
  SetOption(options, "acceptance_likelihood_weight", acceptance_likelihood_weight_);
  SetOption(options, "continue_without_reward", continue_without_reward_);
  SetOption(options, "unanimous", unanimous_);
  SetOption(options, "max_sweeps", max_sweeps_);
  NABLA_RETURN_IF_ERROR(SetChoice(options, "preset", preset_));
  v1::Refinement* refinement = options->mutable_refinement();
  NABLA_RETURN_IF_ERROR(SetChoice(refinement, "parameter", parameter_));
  NABLA_RETURN_IF_ERROR(SetChoice(refinement, "optimizer", optimizer_));
  NABLA_RETURN_IF_ERROR(SetChoice(refinement, "anchor", anchor_));
  SetOption(refinement, "max_kl", max_kl_);
  SetOption(refinement, "iterations", iterations_);
  SetOption(refinement, "learning_rate", learning_rate_);
  SetOption(refinement, "likelihood_weight", likelihood_weight_);
  SetOption(refinement, "reward_weight", reward_weight_);
  SetOption(refinement, "update_postfix", update_postfix_);
  return absl::OkStatus();
}

}  // namespace nabla
