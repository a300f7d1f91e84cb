#include "engine/base/request.h"

#include <gtest/gtest.h>

#include <limits>

namespace nabla {
namespace {

ReasonRequest Valid() { return {.messages = {{"user", "Hi"}}}; }

// The message of the error that one change to a valid request makes.
template <typename Change>
std::string ErrorOf(const Change& change) {
  ReasonRequest request = Valid();
  change(request);
  const absl::Status status = Validate(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

template <typename Change>
std::string NablaErrorOf(const Change& change) {
  return ErrorOf([&](ReasonRequest& request) { change(std::get<NablaOptions>(request.strategy)); });
}

TEST(RequestTest, DefaultsAreValid) {
  EXPECT_TRUE(Validate(Valid()).ok());
  EXPECT_TRUE(Validate({.prompt = "Once"}).ok());
  EXPECT_TRUE(Validate({.messages = {{"user", "Hi"}}, .strategy = SampleOptions{}}).ok());
}

TEST(RequestTest, MessagesAreChecked) {
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.messages.clear(); }),
            "messages: must not be empty; send at least one user message");
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.messages[0].content.clear(); }), "messages[0].content: must not be empty");
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.messages[0].role = "tool"; }),
            "messages[0].role: must be system, user or assistant, got \"tool\"");
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.prompt = "Hi"; }),
            "prompt: must be left out where messages are given; send one of the two");
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.messages.clear(), r.prompt = ""; }), "prompt: must not be empty");
}

TEST(RequestTest, LimitsAreChecked) {
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.max_new_tokens = 0; }), "max_new_tokens: must be 1 or more, got 0");
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.stop = {"a", ""}; }), "stop[1]: must not be empty");
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.stop = {std::string(257, 'a')}; }),
            "stop[0]: must be at most 256 bytes, got 257");
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.stop.assign(17, "a"); }), "stop: must be at most 16 sequences, got 17");
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.max_model_calls = 0; }), "max_model_calls: must be 1 or more, got 0");
}

TEST(RequestTest, SamplingIsChecked) {
  const auto sampling = [](const SamplingOptions& options) {
    return ErrorOf([&](ReasonRequest& r) { r.strategy = SampleOptions{.sampling = options}; });
  };
  EXPECT_EQ(sampling({.temperature = -1}), "sample.sampling.temperature: must be from 0 to 100, got -1");
  EXPECT_EQ(sampling({.temperature = std::numeric_limits<double>::quiet_NaN()}),
            "sample.sampling.temperature: must be from 0 to 100, got nan");
  EXPECT_EQ(sampling({.top_k = -2}), "sample.sampling.top_k: must be 0 (all) or more, got -2");
  EXPECT_EQ(sampling({.top_p = 0}), "sample.sampling.top_p: must be greater than 0 and at most 1, got 0");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.resample.top_p = 1.5; }),
            "nabla.resample.top_p: must be greater than 0 and at most 1, got 1.5");
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.strategy = BestOfNOptions{.sampling = {.top_k = -1}}; }),
            "best_of_n.sampling.top_k: must be 0 (all) or more, got -1");
}

TEST(RequestTest, CandidatesAreChecked) {
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.strategy = BestOfNOptions{.candidates = 0}; }),
            "best_of_n.candidates: must be 1 or more, got 0");
  EXPECT_EQ(ErrorOf([](ReasonRequest& r) { r.strategy = SelfConsistencyOptions{.candidates = -1}; }),
            "self_consistency.candidates: must be 1 or more, got -1");
}

TEST(RequestTest, SearchesAreChecked) {
  const auto beam = [](const BeamOptions& options) { return ErrorOf([&](ReasonRequest& r) { r.strategy = options; }); };
  EXPECT_EQ(beam({.width = 0}), "beam.width: must be 1 or more, got 0");
  EXPECT_EQ(beam({.expansions = 0}), "beam.expansions: must be 1 or more, got 0");
  EXPECT_EQ(beam({.width = 4, .subtrees = 3}), "beam.subtrees: must be a divisor of beam.width (4), got 3");
  EXPECT_EQ(beam({.subtrees = 0}), "beam.subtrees: must be a divisor of beam.width (4), got 0");
  EXPECT_EQ(beam({.separator = ""}), "beam.separator: must be some text, got none");
  EXPECT_EQ(beam({.separator = std::string(65, '-')}), "beam.separator: must be at most 64 bytes, got 65");
  EXPECT_EQ(beam({.sampling = {.top_p = 0}}), "beam.sampling.top_p: must be greater than 0 and at most 1, got 0");
  const auto tail_guided = [](const TailGuidedOptions& options) {
    return ErrorOf([&](ReasonRequest& r) { r.strategy = options; });
  };
  EXPECT_EQ(tail_guided({.states = 0}), "tail_guided.states: must be 1 or more, got 0");
  EXPECT_EQ(tail_guided({.probes = 1}), "tail_guided.probes: must be 2 or more, got 1");
  EXPECT_EQ(tail_guided({.candidates = 15}), "tail_guided.candidates: must be at least states × probes (16), got 15");
  EXPECT_EQ(tail_guided({.separator = ""}), "tail_guided.separator: must be some text, got none");
}

TEST(RequestTest, SpeculativeCandidatesAreChecked) {
  const auto error = [](const SpeculativeCandidatesOptions& options) {
    return ErrorOf([&](ReasonRequest& r) { r.strategy = options; });
  };
  EXPECT_EQ(error({.candidates = 0}), "speculative_candidates.candidates: must be 1 or more, got 0");
  EXPECT_EQ(error({.max_reward_drop = std::numeric_limits<double>::quiet_NaN()}),
            "speculative_candidates.max_reward_drop: must be finite, got nan");
  EXPECT_EQ(error({.separator = ""}), "speculative_candidates.separator: must be some text, got none");
}

TEST(RequestTest, PolicyGradientIsChecked) {
  const auto error = [](const PolicyGradientOptions& options) {
    return ErrorOf([&](ReasonRequest& r) { r.strategy = options; });
  };
  EXPECT_EQ(error({.fraction = 0}), "policy_gradient.fraction: must be greater than 0 and at most 1, got 0");
  EXPECT_EQ(error({.max_rollouts = 0}), "policy_gradient.max_rollouts: must be 1 or more, got 0");
  EXPECT_EQ(error({.learning_rate = -1}), "policy_gradient.learning_rate: must be greater than 0, got -1");
  EXPECT_EQ(error({.resample = {.top_k = -1}}), "policy_gradient.resample.top_k: must be 0 (all) or more, got -1");
}

TEST(RequestTest, RefinementAndSelectorsAreChecked) {
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.refinement.iterations = 1001; }),
            "nabla.refinement.iterations: must be from 0 to 1000, got 1001");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.refinement.learning_rate = 0; }),
            "nabla.refinement.learning_rate: must be greater than 0, got 0");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.refinement.min_learning_rate_ratio = 2; }),
            "nabla.refinement.min_learning_rate_ratio: must be from 0 to 1, got 2");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.refinement.reward_weight = -0.5; }),
            "nabla.refinement.reward_weight: must be 0 or more, got -0.5");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.selectors.max_confidence = 0; }),
            "nabla.selectors.max_confidence: must be greater than 0 and at most 1, got 0");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.selectors.min_gradient_norm = -1; }),
            "nabla.selectors.min_gradient_norm: must be 0 or more, got -1");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.max_sweeps = 0; }), "nabla.max_sweeps: must be 1 or more, got 0");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) {
              o.unanimous = NablaOptions::Unanimity::kYes;
              o.rejection_sampling = false;
            }),
            "nabla.unanimous: must be false where rejection_sampling is, got true");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.min_reward_gain = -1; }),
            "nabla.min_reward_gain: must be 0 or more, got -1");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.acceptance_likelihood_weight = -1; }),
            "nabla.acceptance_likelihood_weight: must be 0 or more, got -1");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.target_reward = std::numeric_limits<double>::infinity(); }),
            "nabla.target_reward: must be finite, got inf");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.refinement.max_kl = 0; }),
            "nabla.refinement.max_kl: must be greater than 0, got 0");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) {
              o.refinement.optimizer = RefinementOptions::Optimizer::kMirrorDescent;
              o.refinement.parameter = RefinementOptions::Parameter::kHidden;
            }),
            "nabla.refinement.parameter: must be LOGITS with MIRROR_DESCENT, got HIDDEN");
  EXPECT_EQ(NablaErrorOf([](NablaOptions& o) { o.max_rollouts = 0; }), "nabla.max_rollouts: must be 1 or more, got 0");
}

}  // namespace
}  // namespace nabla
