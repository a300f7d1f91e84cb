#include "server/conversion.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

// Reads a count into `target`. `limit` is what an int holds, or the server's own limit.
absl::Status ReadCount(absl::string_view field, uint32_t value, int limit, absl::string_view whose, int* target) {
  if (value > static_cast<uint32_t>(limit)) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": must be at most ", limit, whose, ", got ", value));
  }
  *target = static_cast<int>(value);
  return absl::OkStatus();
}

absl::Status ReadCount(absl::string_view field, uint32_t value, int* target) {
  return ReadCount(field, value, std::numeric_limits<int>::max(), "", target);
}

absl::Status ReadSampling(absl::string_view field, const v1::Sampling& message, SamplingOptions* options) {
  if (message.has_temperature()) options->temperature = message.temperature();
  if (message.has_top_p()) options->top_p = message.top_p();
  if (message.has_top_k())
    NABLA_RETURN_IF_ERROR(ReadCount(absl::StrCat(field, ".top_k"), message.top_k(), &options->top_k));
  return absl::OkStatus();
}

// Naming any selector replaces the default set, naming none selects every position.
SelectorOptions ReadSelectors(const v1::Selectors& message) {
  SelectorOptions options = {.max_confidence = std::nullopt};
  if (message.has_max_confidence()) options.max_confidence = message.max_confidence();
  if (message.has_min_entropy()) options.min_entropy = message.min_entropy();
  if (message.has_min_gradient_norm()) options.min_gradient_norm = message.min_gradient_norm();
  return options;
}

absl::StatusOr<RefinementOptions::Optimizer> ReadOptimizer(v1::Refinement::Optimizer optimizer) {
  switch (optimizer) {
    case v1::Refinement::ADAM:
      return RefinementOptions::Optimizer::kAdam;
    case v1::Refinement::MIRROR_DESCENT:
      return RefinementOptions::Optimizer::kMirrorDescent;
    case v1::Refinement::SIGN:
      return RefinementOptions::Optimizer::kSign;
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "nabla.refinement.optimizer: must be ADAM, MIRROR_DESCENT or SIGN, got ", static_cast<int>(optimizer)));
  }
}

absl::StatusOr<RefinementOptions::Anchor> ReadAnchor(v1::Refinement::Anchor anchor) {
  switch (anchor) {
    case v1::Refinement::ANCHOR_UNSPECIFIED:
    case v1::Refinement::ARGMAX:
      return RefinementOptions::Anchor::kArgmax;
    case v1::Refinement::ROLLOUT:
      return RefinementOptions::Anchor::kRollout;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("nabla.refinement.anchor: must be ARGMAX or ROLLOUT, got ", static_cast<int>(anchor)));
  }
}

absl::Status ReadRefinement(const v1::Refinement& message, RefinementOptions* options) {
  switch (message.parameter()) {
    case v1::Refinement::PARAMETER_UNSPECIFIED:
    case v1::Refinement::LOGITS:
      options->parameter = RefinementOptions::Parameter::kLogits;
      break;
    case v1::Refinement::HIDDEN:
      options->parameter = RefinementOptions::Parameter::kHidden;
      break;
    default:
      return absl::InvalidArgumentError(absl::StrCat("nabla.refinement.parameter: must be LOGITS or HIDDEN, got ",
                                                     static_cast<int>(message.parameter())));
  }
  if (message.optimizer() != v1::Refinement::OPTIMIZER_UNSPECIFIED) {
    NABLA_ASSIGN_OR_RETURN(options->optimizer, ReadOptimizer(message.optimizer()));
  }
  NABLA_ASSIGN_OR_RETURN(options->anchor, ReadAnchor(message.anchor()));
  if (message.has_max_kl()) options->max_kl = message.max_kl();
  if (message.has_iterations()) {
    NABLA_RETURN_IF_ERROR(ReadCount("nabla.refinement.iterations", message.iterations(), &options->iterations));
  }
  if (message.has_learning_rate()) options->learning_rate = message.learning_rate();
  if (message.has_min_learning_rate_ratio()) options->min_learning_rate_ratio = message.min_learning_rate_ratio();
  if (message.has_likelihood_weight()) options->likelihood_weight = message.likelihood_weight();
  if (message.has_reward_weight()) options->reward_weight = message.reward_weight();
  if (message.has_gradient_caching()) options->gradient_caching = message.gradient_caching();
  if (message.has_update_postfix()) options->update_postfix = message.update_postfix();
  return absl::OkStatus();
}

absl::StatusOr<NablaOptions> ReadPreset(v1::NablaOptions::Preset preset) {
  switch (preset) {
    case v1::NablaOptions::PRESET_UNSPECIFIED:
    case v1::NablaOptions::PAPER:
      return NablaOptions();
    case v1::NablaOptions::GUARDED:
      return GuardedNabla();
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("nabla.preset: must be PAPER or GUARDED, got ", static_cast<int>(preset)));
  }
}

absl::StatusOr<NablaOptions> ReadNabla(const v1::NablaOptions& message, const ConversionOptions& limits) {
  NABLA_ASSIGN_OR_RETURN(NablaOptions options, ReadPreset(message.preset()));
  NABLA_RETURN_IF_ERROR(ReadSampling("nabla.rollout", message.rollout(), &options.rollout));
  NABLA_RETURN_IF_ERROR(ReadSampling("nabla.resample", message.resample(), &options.resample));
  if (message.has_selectors()) options.selectors = ReadSelectors(message.selectors());
  NABLA_RETURN_IF_ERROR(ReadRefinement(message.refinement(), &options.refinement));
  if (message.has_continue_without_reward()) options.continue_without_reward = message.continue_without_reward();
  if (message.has_rejection_sampling()) options.rejection_sampling = message.rejection_sampling();
  if (message.has_screening_candidates()) {
    NABLA_RETURN_IF_ERROR(
        ReadCount("nabla.screening_candidates", message.screening_candidates(), &options.screening_candidates));
  }
  if (message.has_min_reward_gain()) options.min_reward_gain = message.min_reward_gain();
  if (message.has_acceptance_likelihood_weight()) {
    options.acceptance_likelihood_weight = message.acceptance_likelihood_weight();
  }
  if (message.has_unanimous()) {
    options.unanimous = message.unanimous() ? NablaOptions::Unanimity::kYes : NablaOptions::Unanimity::kNo;
  }
  if (message.has_max_sweeps()) {
    NABLA_RETURN_IF_ERROR(ReadCount("nabla.max_sweeps", message.max_sweeps(), &options.max_sweeps));
  }
  if (message.has_target_reward()) options.target_reward = message.target_reward();
  options.max_rollouts = std::min(options.max_rollouts, limits.max_rollouts_limit);
  if (message.has_max_rollouts()) {
    NABLA_RETURN_IF_ERROR(ReadCount("nabla.max_rollouts", message.max_rollouts(), limits.max_rollouts_limit,
                                    ", this server's limit", &options.max_rollouts));
  }
  return options;
}

// `name`: of the strategy that takes candidates.
template <typename Message>
absl::Status ReadCandidates(const std::string& name, const Message& message, const ConversionOptions& limits,
                            int* candidates, SamplingOptions* sampling) {
  NABLA_RETURN_IF_ERROR(ReadSampling(name + ".sampling", message.sampling(), sampling));
  *candidates = std::min(*candidates, limits.max_rollouts_limit);
  if (!message.has_candidates()) return absl::OkStatus();
  return ReadCount(name + ".candidates", message.candidates(), limits.max_rollouts_limit, ", this server's limit",
                   candidates);
}

absl::StatusOr<BeamOptions> ReadBeam(const v1::BeamOptions& message) {
  BeamOptions options;
  NABLA_RETURN_IF_ERROR(ReadSampling("beam.sampling", message.sampling(), &options.sampling));
  if (message.has_width()) NABLA_RETURN_IF_ERROR(ReadCount("beam.width", message.width(), &options.width));
  if (message.has_expansions()) {
    NABLA_RETURN_IF_ERROR(ReadCount("beam.expansions", message.expansions(), &options.expansions));
  }
  if (message.has_subtrees()) NABLA_RETURN_IF_ERROR(ReadCount("beam.subtrees", message.subtrees(), &options.subtrees));
  if (message.has_separator()) options.separator = message.separator();
  return options;
}

absl::StatusOr<TailGuidedOptions> ReadTailGuided(const v1::TailGuidedOptions& message,
                                                 const ConversionOptions& limits) {
  TailGuidedOptions options;
  NABLA_RETURN_IF_ERROR(ReadCandidates("tail_guided", message, limits, &options.candidates, &options.sampling));
  if (message.has_states()) NABLA_RETURN_IF_ERROR(ReadCount("tail_guided.states", message.states(), &options.states));
  if (message.has_probes()) NABLA_RETURN_IF_ERROR(ReadCount("tail_guided.probes", message.probes(), &options.probes));
  if (message.has_separator()) options.separator = message.separator();
  return options;
}

absl::StatusOr<PolicyGradientOptions> ReadPolicyGradient(const v1::PolicyGradientOptions& message,
                                                         const ConversionOptions& limits) {
  PolicyGradientOptions options;
  NABLA_RETURN_IF_ERROR(ReadSampling("policy_gradient.rollout", message.rollout(), &options.rollout));
  NABLA_RETURN_IF_ERROR(ReadSampling("policy_gradient.resample", message.resample(), &options.resample));
  if (message.has_fraction()) options.fraction = message.fraction();
  if (message.has_learning_rate()) options.learning_rate = message.learning_rate();
  if (message.has_target_reward()) options.target_reward = message.target_reward();
  options.max_rollouts = std::min(options.max_rollouts, limits.max_rollouts_limit);
  if (message.has_max_rollouts()) {
    NABLA_RETURN_IF_ERROR(ReadCount("policy_gradient.max_rollouts", message.max_rollouts(), limits.max_rollouts_limit,
                                    ", this server's limit", &options.max_rollouts));
  }
  return options;
}

absl::StatusOr<SpeculativeCandidatesOptions> ReadSpeculativeCandidates(const v1::SpeculativeCandidatesOptions& message,
                                                                       const ConversionOptions& limits) {
  SpeculativeCandidatesOptions options;
  NABLA_RETURN_IF_ERROR(
      ReadCandidates("speculative_candidates", message, limits, &options.candidates, &options.sampling));
  if (message.has_max_reward_drop()) options.max_reward_drop = message.max_reward_drop();
  if (message.has_separator()) options.separator = message.separator();
  return options;
}

absl::StatusOr<Priority> ReadPriority(v1::Priority priority) {
  switch (priority) {
    case v1::PRIORITY_UNSPECIFIED:
    case v1::PRIORITY_NORMAL:
      return Priority::kNormal;
    case v1::PRIORITY_LOW:
      return Priority::kLow;
    case v1::PRIORITY_HIGH:
      return Priority::kHigh;
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "priority: must be PRIORITY_LOW, PRIORITY_NORMAL or PRIORITY_HIGH, got ", static_cast<int>(priority)));
  }
}

absl::StatusOr<StrategyOptions> ReadStrategy(const v1::ReasonRequest& message, const ConversionOptions& limits) {
  switch (message.strategy_case()) {
    case v1::ReasonRequest::kGreedy:
      return GreedyOptions{};
    case v1::ReasonRequest::kSample: {
      SampleOptions options;
      NABLA_RETURN_IF_ERROR(ReadSampling("sample.sampling", message.sample().sampling(), &options.sampling));
      return options;
    }
    case v1::ReasonRequest::kNabla:
      return ReadNabla(message.nabla(), limits);
    case v1::ReasonRequest::kBestOfN: {
      BestOfNOptions options{.weighted = message.best_of_n().weighted()};
      NABLA_RETURN_IF_ERROR(
          ReadCandidates("best_of_n", message.best_of_n(), limits, &options.candidates, &options.sampling));
      return options;
    }
    case v1::ReasonRequest::kSelfConsistency: {
      SelfConsistencyOptions options;
      NABLA_RETURN_IF_ERROR(ReadCandidates("self_consistency", message.self_consistency(), limits, &options.candidates,
                                           &options.sampling));
      return options;
    }
    case v1::ReasonRequest::kBeam:
      return ReadBeam(message.beam());
    case v1::ReasonRequest::kTailGuided:
      return ReadTailGuided(message.tail_guided(), limits);
    case v1::ReasonRequest::kPolicyGradient:
      return ReadPolicyGradient(message.policy_gradient(), limits);
    case v1::ReasonRequest::kSpeculativeCandidates:
      return ReadSpeculativeCandidates(message.speculative_candidates(), limits);
    case v1::ReasonRequest::STRATEGY_NOT_SET:
      break;
  }
  if (limits.has_reward_model) return ReadNabla(v1::NablaOptions(), limits);
  return GreedyOptions{};
}

void ToProto(absl::Duration duration, google::protobuf::Duration* message) {
  absl::Duration rest;
  message->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  message->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

void ToProto(const ModelWork& work, v1::ModelWork* message) {
  message->set_forward_passes(work.forward_passes);
  message->set_forward_tokens(work.forward_tokens);
  message->set_backward_passes(work.backward_passes);
  message->set_backward_tokens(work.backward_tokens);
}

void ToProto(const Usage& usage, v1::Usage* message) {
  message->set_prompt_tokens(usage.prompt_tokens);
  message->set_completion_tokens(usage.completion_tokens);
  message->set_rollouts(usage.rollouts);
  message->set_revisions_accepted(usage.revisions_accepted);
  message->set_revisions_rejected(usage.revisions_rejected);
  message->set_gradient_steps(usage.gradient_steps);
  message->set_gradient_steps_computed(usage.gradient_steps_computed);
  message->set_decoded_tokens(usage.decoded_tokens);
  message->set_model_calls(usage.model_calls);
  ToProto(usage.language_model, message->mutable_language_model());
  ToProto(usage.reward_model, message->mutable_reward_model());
  ToProto(usage.draft_model, message->mutable_draft_model());
  ToProto(usage.queue_time, message->mutable_queue_time());
  ToProto(usage.time_to_first_token, message->mutable_time_to_first_token());
  ToProto(usage.refine_time, message->mutable_refine_time());
  ToProto(usage.reward_time, message->mutable_reward_time());
  ToProto(usage.total_time, message->mutable_total_time());
  message->set_draft_tokens_accepted(usage.draft_tokens_accepted);
  message->set_draft_tokens_rejected(usage.draft_tokens_rejected);
}

void ToProto(const RevisionEvent& event, v1::Revision* message) {
  message->set_position(event.position);
  message->set_old_token_id(event.old_token_id);
  message->set_new_token_id(event.new_token_id);
  message->set_old_text(event.old_text);
  message->set_new_text(event.new_text);
  if (event.reward_before.has_value()) message->set_reward_before(*event.reward_before);
  if (event.reward_after.has_value()) message->set_reward_after(*event.reward_after);
  for (const double gain : event.guard_gains) message->add_guard_gains(gain);
  message->set_accepted(event.accepted);
  message->set_gradient_norm(event.gradient_norm);
}

// Fills the oneof of `message` from each kind of event.
struct EventWriter {
  v1::ReasonEvent* message;
  const std::string& request_id;

  void operator()(StartedEvent event) const {
    v1::Started* started = message->mutable_started();
    started->set_model(std::move(event.model));
    started->set_reward_model(std::move(event.reward_model));
    started->set_strategy(std::move(event.strategy));
    started->set_seed(event.seed);
    started->set_prompt_tokens(event.prompt_tokens);
    started->set_max_new_tokens(event.max_new_tokens);
    started->set_request_id(request_id);
  }
  void operator()(CommittedEvent event) const {
    v1::Committed* committed = message->mutable_committed();
    committed->mutable_token_ids()->Add(event.token_ids.begin(), event.token_ids.end());
    committed->set_text(std::move(event.text));
  }
  void operator()(DraftEvent event) const {
    v1::Draft* draft = message->mutable_draft();
    draft->set_position(event.position);
    draft->mutable_token_ids()->Add(event.token_ids.begin(), event.token_ids.end());
    for (std::string& text : event.token_texts) draft->add_token_texts(std::move(text));
    draft->set_text(std::move(event.text));
  }
  void operator()(const RevisionEvent& event) const { ToProto(event, message->mutable_revision()); }
  void operator()(CandidateEvent event) const {
    v1::Candidate* candidate = message->mutable_candidate();
    candidate->set_index(static_cast<uint32_t>(event.index));
    candidate->mutable_token_ids()->Add(event.token_ids.begin(), event.token_ids.end());
    candidate->set_text(std::move(event.text));
    if (event.reward) candidate->set_reward(*event.reward);
    candidate->set_chosen(event.chosen);
  }
  void operator()(ProgressEvent event) const {
    v1::Progress* progress = message->mutable_progress();
    progress->set_position(event.position);
    progress->set_gradient_steps(event.gradient_steps);
    progress->set_model_calls(event.model_calls);
    progress->set_gradient_norm(event.gradient_norm);
  }
};

v1::Finished::Reason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEndOfSequence:
      return v1::Finished::END_OF_SEQUENCE;
    case FinishReason::kStopSequence:
      return v1::Finished::STOP_SEQUENCE;
    case FinishReason::kLength:
      return v1::Finished::LENGTH;
    case FinishReason::kModelCallBudget:
      return v1::Finished::MODEL_CALL_BUDGET;
  }
  return v1::Finished::REASON_UNSPECIFIED;
}

}  // namespace

absl::StatusOr<ReasonRequest> FromProto(const v1::ReasonRequest& message, const ConversionOptions& options) {
  ReasonRequest request;
  for (const v1::Message& turn : message.messages()) request.messages.push_back({turn.role(), turn.content()});
  if (message.has_prompt()) request.prompt = message.prompt();
  NABLA_ASSIGN_OR_RETURN(request.strategy, ReadStrategy(message, options));
  NABLA_ASSIGN_OR_RETURN(request.priority, ReadPriority(message.priority()));
  request.max_new_tokens = std::min(request.max_new_tokens, options.max_new_tokens_limit);
  if (message.has_max_new_tokens()) {
    NABLA_RETURN_IF_ERROR(ReadCount("max_new_tokens", message.max_new_tokens(), options.max_new_tokens_limit,
                                    ", this server's limit", &request.max_new_tokens));
  }
  request.stop.assign(message.stop().begin(), message.stop().end());
  request.seed = message.has_seed() ? message.seed() : options.drawn_seed;
  if (message.has_max_model_calls()) {
    constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
    if (message.max_model_calls() > kMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("max_model_calls: must be at most ", kMax, ", got ", message.max_model_calls()));
    }
    request.max_model_calls = static_cast<int64_t>(message.max_model_calls());
  }
  NABLA_RETURN_IF_ERROR(Validate(request));
  return request;
}

v1::GetInfoResponse DescribePool(const EnginePool& pool) {
  v1::GetInfoResponse response;
  const ModelInfos models = pool.models();
  *response.mutable_model() = ToProto(models.model);
  if (models.reward_model.has_value()) *response.mutable_reward_model() = ToProto(*models.reward_model);
  if (models.draft_model.has_value()) *response.mutable_draft_model() = ToProto(*models.draft_model);
  for (const ModelInfo& guard : models.guard_models) *response.add_guard_models() = ToProto(guard);
  const StrategyOptions strategies[] = {
      GreedyOptions{},     SampleOptions{},         SelfConsistencyOptions{},       BestOfNOptions{}, BeamOptions{},
      TailGuidedOptions{}, PolicyGradientOptions{}, SpeculativeCandidatesOptions{}, NablaOptions{}};
  static_assert(std::size(strategies) == std::variant_size_v<StrategyOptions>);
  for (const StrategyOptions& strategy : strategies) {
    const bool has_all = (response.has_reward_model() || !NeedsReward(strategy)) &&
                         (response.has_draft_model() || !NeedsDraftModel(strategy));
    if (has_all) response.add_strategies(StrategyName(strategy));
  }
  const PoolLoad load = pool.load();
  response.set_workers(load.capacity);
  response.set_running(load.running);
  response.set_waiting(load.waiting);
  for (const EngineLoad& engine : load.engines) {
    v1::EngineInfo* info = response.add_engines();
    info->set_device(engine.device);
    info->set_healthy(engine.healthy);
    info->set_running(engine.running);
    info->set_kv_cache_usage_ratio(engine.kv_cache_usage_ratio);
  }
  return response;
}

v1::ReasonEvent ToProto(Event event, const std::string& request_id) {
  v1::ReasonEvent message;
  std::visit(EventWriter{&message, request_id}, std::move(event));
  return message;
}

v1::Finished ToProto(const ReasonResult& result) {
  v1::Finished message;
  message.set_reason(ToProto(result.finish_reason));
  message.set_text(result.text);
  message.mutable_token_ids()->Add(result.token_ids.begin(), result.token_ids.end());
  if (result.reward.has_value()) message.set_reward(*result.reward);
  if (result.initial_reward.has_value()) message.set_initial_reward(*result.initial_reward);
  message.set_reward_lost(result.reward_lost);
  for (const RevisionEvent& revision : result.revisions) ToProto(revision, message.add_revisions());
  ToProto(result.usage, message.mutable_usage());
  return message;
}

v1::ModelInfo ToProto(const ModelInfo& info) {
  v1::ModelInfo message;
  message.set_name(info.name);
  message.set_architecture(info.architecture);
  message.set_dtype(info.dtype);
  message.set_device(info.device);
  message.set_reward_kind(info.reward_kind);
  message.set_parameters(info.parameters);
  message.set_vocabulary_size(info.vocabulary_size);
  message.set_max_length(info.max_length);
  return message;
}

}  // namespace nabla
