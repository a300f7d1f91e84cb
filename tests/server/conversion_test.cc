#include "server/conversion.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

namespace nabla {
namespace {

const ConversionOptions kOptions = {
    .has_reward_model = true, .max_new_tokens_limit = 1000, .max_rollouts_limit = 100, .drawn_seed = 77};

v1::ReasonRequest Message(const std::string& text) {
  v1::ReasonRequest message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      absl::StrCat("messages { role: 'user' content: 'q' } ", text), &message));
  return message;
}

std::string Error(const std::string& text) {
  const absl::StatusOr<ReasonRequest> request = FromProto(Message(text), kOptions);
  EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(request.status().message());
}

TEST(ConversionTest, LeftOutFieldsTakeTheDocumentedDefaults) {
  const absl::StatusOr<ReasonRequest> request = FromProto(Message(""), kOptions);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->messages.size(), 1u);
  EXPECT_EQ(request->messages[0].role, "user");
  EXPECT_EQ(request->messages[0].content, "q");
  EXPECT_FALSE(request->prompt.has_value());
  EXPECT_EQ(request->max_new_tokens, 256);
  EXPECT_EQ(request->seed, 77u);
  EXPECT_FALSE(request->max_model_calls.has_value());
  const auto& options = std::get<NablaOptions>(request->strategy);
  EXPECT_EQ(options.max_rollouts, 8);
  EXPECT_TRUE(options.rejection_sampling);
  EXPECT_EQ(options.selectors.max_confidence, 0.97);
  EXPECT_EQ(options.rollout.temperature, 0);
  EXPECT_EQ(options.refinement.iterations, 20);
  EXPECT_EQ(options.refinement.learning_rate, 0.01);
}

TEST(ConversionTest, PrioritiesAreRead) {
  for (const auto& [text, priority] :
       {std::pair("", Priority::kNormal), std::pair("priority: PRIORITY_LOW", Priority::kLow),
        std::pair("priority: PRIORITY_NORMAL", Priority::kNormal),
        std::pair("priority: PRIORITY_HIGH", Priority::kHigh)}) {
    EXPECT_EQ(FromProto(Message(text), kOptions)->priority, priority);
  }
  EXPECT_EQ(Error("priority: 9"), "priority: must be PRIORITY_LOW, PRIORITY_NORMAL or PRIORITY_HIGH, got 9");
}

TEST(ConversionTest, GoingOnWithoutARewardIsAskedForAndTold) {
  const auto continues = [](const std::string& text) {
    return std::get<NablaOptions>(FromProto(Message(text), kOptions)->strategy).continue_without_reward;
  };
  EXPECT_FALSE(continues("nabla {}"));
  EXPECT_TRUE(continues("nabla { continue_without_reward: true }"));
  EXPECT_FALSE(ToProto(ReasonResult{}).reward_lost());
  EXPECT_TRUE(ToProto(ReasonResult{.reward_lost = true}).reward_lost());
}

TEST(ConversionTest, WithoutARewardModelTheDefaultIsGreedy) {
  const absl::StatusOr<ReasonRequest> request = FromProto(Message(""), {.has_reward_model = false});
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_TRUE(std::holds_alternative<GreedyOptions>(request->strategy));
}

TEST(ConversionTest, DefaultsKeepTheServersLimits) {
  const absl::StatusOr<ReasonRequest> request =
      FromProto(Message(""), {.has_reward_model = true, .max_new_tokens_limit = 10, .max_rollouts_limit = 2});
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->max_new_tokens, 10);
  EXPECT_EQ(std::get<NablaOptions>(request->strategy).max_rollouts, 2);
}

TEST(ConversionTest, EveryFieldArrives) {
  const absl::StatusOr<ReasonRequest> request = FromProto(Message(R"pb(
                                                            nabla {
                                                              rollout { temperature: 0.5 top_k: 3 top_p: 0.9 }
                                                              resample { temperature: 0.25 }
                                                              selectors { min_entropy: 0.1 min_gradient_norm: 0.2 }
                                                              refinement {
                                                                parameter: HIDDEN
                                                                iterations: 4
                                                                learning_rate: 0.5
                                                                min_learning_rate_ratio: 0.75
                                                                likelihood_weight: 0.125
                                                                reward_weight: 2
                                                                gradient_caching: false
                                                                update_postfix: true
                                                                optimizer: SIGN
                                                                anchor: ROLLOUT
                                                                max_kl: 1.5
                                                              }
                                                              rejection_sampling: false
                                                              max_rollouts: 100
                                                              screening_candidates: 6
                                                              min_reward_gain: 0.25
                                                              acceptance_likelihood_weight: 0.5
                                                              target_reward: -2
                                                              max_sweeps: 3
                                                            }
                                                            max_new_tokens: 1000
                                                            stop: "a"
                                                            stop: "b"
                                                            seed: 0
                                                            max_model_calls: 9)pb"),
                                                          kOptions);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->max_new_tokens, 1000);
  EXPECT_EQ(request->stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request->seed, 0u);
  EXPECT_EQ(request->max_model_calls, 9);
  const auto& options = std::get<NablaOptions>(request->strategy);
  EXPECT_EQ(options.rollout.temperature, 0.5);
  EXPECT_EQ(options.rollout.top_k, 3);
  EXPECT_EQ(options.rollout.top_p, 0.9);
  EXPECT_EQ(options.resample.temperature, 0.25);
  EXPECT_FALSE(options.selectors.max_confidence.has_value());
  EXPECT_EQ(options.selectors.min_entropy, 0.1);
  EXPECT_EQ(options.selectors.min_gradient_norm, 0.2);
  EXPECT_EQ(options.refinement.parameter, RefinementOptions::Parameter::kHidden);
  EXPECT_EQ(options.refinement.iterations, 4);
  EXPECT_EQ(options.refinement.learning_rate, 0.5);
  EXPECT_EQ(options.refinement.min_learning_rate_ratio, 0.75);
  EXPECT_EQ(options.refinement.likelihood_weight, 0.125);
  EXPECT_EQ(options.refinement.reward_weight, 2);
  EXPECT_FALSE(options.refinement.gradient_caching);
  EXPECT_TRUE(options.refinement.update_postfix);
  EXPECT_EQ(options.refinement.optimizer, RefinementOptions::Optimizer::kSign);
  EXPECT_EQ(options.refinement.anchor, RefinementOptions::Anchor::kRollout);
  EXPECT_EQ(options.refinement.max_kl, 1.5);
  EXPECT_EQ(options.acceptance_likelihood_weight, 0.5);
  EXPECT_EQ(options.target_reward, -2);
  EXPECT_EQ(options.max_sweeps, 3);
  EXPECT_FALSE(options.rejection_sampling);
  EXPECT_EQ(options.max_rollouts, 100);
  EXPECT_EQ(options.screening_candidates, 6);
  EXPECT_EQ(options.min_reward_gain, 0.25);
}

TEST(ConversionTest, SampleAndGreedyAreRead) {
  const absl::StatusOr<ReasonRequest> sample = FromProto(Message("sample { sampling { top_k: 5 } }"), kOptions);
  ASSERT_TRUE(sample.ok()) << sample.status();
  EXPECT_EQ(std::get<SampleOptions>(sample->strategy).sampling.top_k, 5);
  EXPECT_EQ(std::get<SampleOptions>(sample->strategy).sampling.temperature, 0.7);
  const absl::StatusOr<ReasonRequest> greedy = FromProto(Message("greedy {}"), kOptions);
  ASSERT_TRUE(greedy.ok()) << greedy.status();
  EXPECT_TRUE(std::holds_alternative<GreedyOptions>(greedy->strategy));
}

TEST(ConversionTest, CandidatesAreRead) {
  const auto best = FromProto(Message("best_of_n { candidates: 4 weighted: true sampling { top_k: 5 } }"), kOptions);
  ASSERT_TRUE(best.ok()) << best.status();
  EXPECT_EQ(std::get<BestOfNOptions>(best->strategy).candidates, 4);
  EXPECT_EQ(std::get<BestOfNOptions>(best->strategy).sampling.top_k, 5);
  EXPECT_TRUE(std::get<BestOfNOptions>(best->strategy).weighted);
  const auto vote = FromProto(Message("self_consistency {}"), kOptions);
  ASSERT_TRUE(vote.ok()) << vote.status();
  EXPECT_EQ(std::get<SelfConsistencyOptions>(vote->strategy).candidates, 8);
}

TEST(ConversionTest, SearchesAreRead) {
  const auto beam =
      FromProto(Message("beam { width: 6 expansions: 2 subtrees: 3 separator: '. ' sampling { top_k: 5 } }"), kOptions);
  ASSERT_TRUE(beam.ok()) << beam.status();
  const auto& beam_options = std::get<BeamOptions>(beam->strategy);
  EXPECT_EQ(beam_options.width, 6);
  EXPECT_EQ(beam_options.expansions, 2);
  EXPECT_EQ(beam_options.subtrees, 3);
  EXPECT_EQ(beam_options.separator, ". ");
  EXPECT_EQ(beam_options.sampling.top_k, 5);
  const auto tail = FromProto(
      Message("tail_guided { states: 2 probes: 3 candidates: 9 separator: ';' sampling { top_k: 5 } }"), kOptions);
  ASSERT_TRUE(tail.ok()) << tail.status();
  const auto& tail_options = std::get<TailGuidedOptions>(tail->strategy);
  EXPECT_EQ(tail_options.states, 2);
  EXPECT_EQ(tail_options.probes, 3);
  EXPECT_EQ(tail_options.candidates, 9);
  EXPECT_EQ(tail_options.separator, ";");
  EXPECT_EQ(tail_options.sampling.top_k, 5);
  EXPECT_EQ(std::get<BeamOptions>(FromProto(Message("beam {}"), kOptions)->strategy).separator, "\n\n");
}

TEST(ConversionTest, SpeculativeCandidatesAreRead) {
  const auto request = FromProto(Message("speculative_candidates { candidates: 3 max_reward_drop: 0.5 separator: ';' "
                                         "sampling { top_k: 2 } }"),
                                 kOptions);
  ASSERT_TRUE(request.ok()) << request.status();
  const auto& options = std::get<SpeculativeCandidatesOptions>(request->strategy);
  EXPECT_EQ(options.candidates, 3);
  EXPECT_EQ(options.max_reward_drop, 0.5);
  EXPECT_EQ(options.separator, ";");
  EXPECT_EQ(options.sampling.top_k, 2);
}

TEST(ConversionTest, PolicyGradientIsRead) {
  const auto request = FromProto(Message("policy_gradient { fraction: 0.5 max_rollouts: 3 learning_rate: 0.25 "
                                         "rollout { top_k: 2 } resample { top_k: 3 } target_reward: 1 }"),
                                 kOptions);
  ASSERT_TRUE(request.ok()) << request.status();
  const auto& options = std::get<PolicyGradientOptions>(request->strategy);
  EXPECT_EQ(options.fraction, 0.5);
  EXPECT_EQ(options.max_rollouts, 3);
  EXPECT_EQ(options.learning_rate, 0.25);
  EXPECT_EQ(options.rollout.top_k, 2);
  EXPECT_EQ(options.resample.top_k, 3);
  EXPECT_EQ(options.target_reward, 1);
}

// The name in the API, on the command line and in metrics is one.
TEST(ConversionTest, StrategiesAreNamedAsTheirFields) {
  const google::protobuf::OneofDescriptor* fields = v1::ReasonRequest::descriptor()->FindOneofByName("strategy");
  ASSERT_EQ(fields->field_count(), std::variant_size_v<StrategyOptions>);
  for (int i = 0; i < fields->field_count(); ++i) EXPECT_EQ(fields->field(i)->name(), kStrategyNames[i]);
}

TEST(ConversionTest, PresetsAreWhatFieldsLeftOutAre) {
  const auto read = [](const char* text) {
    return std::get<NablaOptions>(FromProto(Message(text), kOptions)->strategy);
  };
  const NablaOptions paper = read("nabla { preset: PAPER }"), guarded = read("nabla { preset: GUARDED }");
  EXPECT_EQ(paper.screening_candidates, 0);
  EXPECT_EQ(paper.refinement.optimizer, RefinementOptions::Optimizer::kAdam);
  EXPECT_EQ(guarded.screening_candidates, 8);
  EXPECT_EQ(guarded.refinement.optimizer, RefinementOptions::Optimizer::kMirrorDescent);
  EXPECT_EQ(guarded.refinement.learning_rate, 10);
  EXPECT_EQ(guarded.acceptance_likelihood_weight, 0.3);
  EXPECT_EQ(paper.unanimous, NablaOptions::Unanimity::kNo);
  EXPECT_EQ(guarded.unanimous, NablaOptions::Unanimity::kIfAny);
  EXPECT_EQ(read("nabla { preset: GUARDED unanimous: false }").unanimous, NablaOptions::Unanimity::kNo);
  EXPECT_EQ(read("nabla { unanimous: true }").unanimous, NablaOptions::Unanimity::kYes);
  const NablaOptions mixed =
      read("nabla { preset: GUARDED screening_candidates: 2 refinement { optimizer: SIGN learning_rate: 0.5 } }");
  EXPECT_EQ(mixed.screening_candidates, 2);
  EXPECT_EQ(mixed.refinement.optimizer, RefinementOptions::Optimizer::kSign);
  EXPECT_EQ(mixed.refinement.learning_rate, 0.5);
  v1::ReasonRequest message = Message("nabla {}");
  message.mutable_nabla()->set_preset(static_cast<v1::NablaOptions::Preset>(9));
  EXPECT_EQ(FromProto(message, kOptions).status().message(), "nabla.preset: must be PAPER or GUARDED, got 9");
}

TEST(ConversionTest, EmptySelectorsSelectEveryPosition) {
  const absl::StatusOr<ReasonRequest> request = FromProto(Message("nabla { selectors {} }"), kOptions);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_FALSE(std::get<NablaOptions>(request->strategy).selectors.max_confidence.has_value());
}

TEST(ConversionTest, ValuesBeyondTheServersLimitsAreRefused) {
  EXPECT_EQ(Error("max_new_tokens: 1001"), "max_new_tokens: must be at most 1000, this server's limit, got 1001");
  EXPECT_EQ(Error("nabla { max_rollouts: 101 }"),
            "nabla.max_rollouts: must be at most 100, this server's limit, got 101");
}

TEST(ConversionTest, ValuesThatDoNotFitAreRefused) {
  EXPECT_EQ(Error("nabla { rollout { top_k: 4294967295 } }"),
            "nabla.rollout.top_k: must be at most 2147483647, got 4294967295");
  EXPECT_EQ(Error("nabla { resample { top_k: 2147483648 } }"),
            "nabla.resample.top_k: must be at most 2147483647, got 2147483648");
  EXPECT_EQ(Error("sample { sampling { top_k: 2147483648 } }"),
            "sample.sampling.top_k: must be at most 2147483647, got 2147483648");
  EXPECT_EQ(Error("nabla { refinement { iterations: 2147483648 } }"),
            "nabla.refinement.iterations: must be at most 2147483647, got 2147483648");
  EXPECT_EQ(Error("max_model_calls: 9223372036854775808"),
            "max_model_calls: must be at most 9223372036854775807, got 9223372036854775808");
  v1::ReasonRequest message = Message("nabla { refinement {} }");
  message.mutable_nabla()->mutable_refinement()->set_parameter(static_cast<v1::Refinement::Parameter>(9));
  EXPECT_EQ(FromProto(message, kOptions).status().message(),
            "nabla.refinement.parameter: must be LOGITS or HIDDEN, got 9");
  message = Message("nabla { refinement {} }");
  message.mutable_nabla()->mutable_refinement()->set_optimizer(static_cast<v1::Refinement::Optimizer>(9));
  EXPECT_EQ(FromProto(message, kOptions).status().message(),
            "nabla.refinement.optimizer: must be ADAM, MIRROR_DESCENT or SIGN, got 9");
  message = Message("nabla { refinement {} }");
  message.mutable_nabla()->mutable_refinement()->set_anchor(static_cast<v1::Refinement::Anchor>(9));
  EXPECT_EQ(FromProto(message, kOptions).status().message(),
            "nabla.refinement.anchor: must be ARGMAX or ROLLOUT, got 9");
}

TEST(ConversionTest, EveryFieldIsValidated) {
  const std::pair<const char*, const char*> cases[] = {
      {"messages { role: 'robot' content: 'q' }", "messages[1].role: must be system, user or assistant, got \"robot\""},
      {"messages { role: 'user' }", "messages[1].content: must not be empty"},
      {"prompt: 'p'", "prompt: must be left out where messages are given; send one of the two"},
      {"max_new_tokens: 0", "max_new_tokens: must be 1 or more, got 0"},
      {"stop: 'a' stop: ''", "stop[1]: must not be empty"},
      {"max_model_calls: 0", "max_model_calls: must be 1 or more, got 0"},
      {"sample { sampling { temperature: -1 } }", "sample.sampling.temperature: must be from 0 to 100, got -1"},
      {"sample { sampling { temperature: nan } }", "sample.sampling.temperature: must be from 0 to 100, got nan"},
      {"sample { sampling { top_p: 0 } }", "sample.sampling.top_p: must be greater than 0 and at most 1, got 0"},
      {"nabla { rollout { top_p: 1.5 } }", "nabla.rollout.top_p: must be greater than 0 and at most 1, got 1.5"},
      {"nabla { resample { temperature: 101 } }", "nabla.resample.temperature: must be from 0 to 100, got 101"},
      {"nabla { selectors { max_confidence: 0 } }",
       "nabla.selectors.max_confidence: must be greater than 0 and at most 1, got 0"},
      {"nabla { selectors { min_entropy: -1 } }", "nabla.selectors.min_entropy: must be 0 or more, got -1"},
      {"nabla { selectors { min_gradient_norm: -1 } }", "nabla.selectors.min_gradient_norm: must be 0 or more, got -1"},
      {"nabla { refinement { iterations: 1001 } }", "nabla.refinement.iterations: must be from 0 to 1000, got 1001"},
      {"nabla { refinement { learning_rate: -1 } }", "nabla.refinement.learning_rate: must be greater than 0, got -1"},
      {"nabla { refinement { min_learning_rate_ratio: 2 } }",
       "nabla.refinement.min_learning_rate_ratio: must be from 0 to 1, got 2"},
      {"nabla { refinement { likelihood_weight: -1 } }",
       "nabla.refinement.likelihood_weight: must be 0 or more, got -1"},
      {"nabla { refinement { reward_weight: inf } }", "nabla.refinement.reward_weight: must be 0 or more, got inf"},
      {"nabla { max_rollouts: 0 }", "nabla.max_rollouts: must be 1 or more, got 0"},
      {"nabla { screening_candidates: 1001 }", "nabla.screening_candidates: must be 0 to 1000, got 1001"},
  };
  for (const auto& [field, error] : cases) EXPECT_EQ(Error(field), error);
  v1::ReasonRequest empty;
  EXPECT_EQ(FromProto(empty, kOptions).status().message(),
            "messages: must not be empty; send at least one user message");
  empty.set_prompt("");
  EXPECT_EQ(FromProto(empty, kOptions).status().message(), "prompt: must not be empty");
  v1::ReasonRequest stops = Message("");
  for (int i = 0; i < 17; ++i) stops.add_stop("x");
  EXPECT_EQ(FromProto(stops, kOptions).status().message(), "stop: must be at most 16 sequences, got 17");
  v1::ReasonRequest role = Message("");
  std::string name = "x";
  for (int i = 0; i < 100; ++i) name += "ä";
  role.mutable_messages(0)->set_role(name);
  EXPECT_EQ(FromProto(role, kOptions).status().message(),
            absl::StrCat("messages[0].role: must be system, user or assistant, got \"", name.substr(0, 63), "…\""))
      << "a client's own text is cut to 64 bytes of whole characters";
}

TEST(ConversionTest, ResultsArriveWhole) {
  ReasonResult result{
      .finish_reason = FinishReason::kModelCallBudget, .text = "ab", .token_ids = {1, 2}, .reward = 0.5};
  result.usage.total_time = absl::Milliseconds(1500);
  result.usage.reward_model.backward_tokens = 8;
  const v1::Finished message = ToProto(result);
  EXPECT_EQ(message.reason(), v1::Finished::MODEL_CALL_BUDGET);
  EXPECT_EQ(message.text(), "ab");
  EXPECT_EQ(message.token_ids_size(), 2);
  EXPECT_EQ(message.reward(), 0.5);
  EXPECT_FALSE(message.has_initial_reward());
  EXPECT_EQ(message.usage().total_time().seconds(), 1);
  EXPECT_EQ(message.usage().total_time().nanos(), 500000000);
  EXPECT_EQ(message.usage().reward_model().backward_tokens(), 8u);
}

TEST(ConversionTest, EventsArriveWhole) {
  const v1::ReasonEvent started = ToProto(StartedEvent{.model = "m", .strategy = "nabla", .seed = 3}, "id-1");
  EXPECT_EQ(started.started().request_id(), "id-1");
  EXPECT_EQ(started.started().seed(), 3u);
  const v1::ReasonEvent draft =
      ToProto(DraftEvent{.position = 2, .token_ids = {4}, .token_texts = {"x"}, .text = "x"}, "");
  EXPECT_EQ(draft.draft().position(), 2u);
  EXPECT_EQ(draft.draft().token_texts(0), "x");
  const v1::ReasonEvent revision =
      ToProto(RevisionEvent{.position = 5, .new_text = "y", .reward_after = 1.0, .accepted = true}, "");
  EXPECT_FALSE(revision.revision().has_reward_before());
  EXPECT_EQ(revision.revision().reward_after(), 1.0);
  EXPECT_TRUE(revision.revision().accepted());
  const v1::ReasonEvent progress = ToProto(ProgressEvent{.position = 6, .gradient_steps = 20, .model_calls = 80}, "");
  EXPECT_EQ(progress.progress().model_calls(), 80u);
  const v1::ReasonEvent candidate =
      ToProto(CandidateEvent{.index = 3, .token_ids = {4, 5}, .text = "z", .chosen = true}, "");
  EXPECT_EQ(candidate.candidate().index(), 3u);
  EXPECT_EQ(candidate.candidate().token_ids(1), 5u);
  EXPECT_FALSE(candidate.candidate().has_reward());
  EXPECT_TRUE(candidate.candidate().chosen());
}

}  // namespace
}  // namespace nabla
