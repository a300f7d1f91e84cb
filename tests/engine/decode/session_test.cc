#include "engine/decode/session.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <thread>

#include "engine/decode/session_state.h"
#include "engine/model/model.h"
#include "tests/engine/model_fixture.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

class RecordingSink : public EventSink {
 public:
  void OnEvent(Event event) override {
    if (const auto* committed = std::get_if<CommittedEvent>(&event)) {
      text += committed->text;
      ids.insert(ids.end(), committed->token_ids.begin(), committed->token_ids.end());
    }
    if (const auto* draft = std::get_if<DraftEvent>(&event)) last_draft = *draft, ++drafts;
    if (on_event) on_event();
  }
  std::function<void()> on_event;
  std::string text;
  std::vector<int32_t> ids;
  DraftEvent last_draft;
  int drafts = 0;
};

class SessionTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = Model::Load(LanguageModelFolder(), "float32", "cpu", 0).value();
    runner_ = NewRunner(model_);
    drafting_runner_ = NewDraftingRunner(model_, *runner_);
  }
  static void TearDownTestSuite() { model_.reset(), drafting_runner_.reset(), runner_.reset(); }

  static std::shared_ptr<ModelRunner> NewDraftingRunner(const std::shared_ptr<const Model>& model,
                                                        ModelRunner& runner) {
    return std::make_shared<ModelRunner>(model, runner.kv_pool(), &runner.batcher(), model->QuantizedCopy());
  }

  static std::vector<int32_t> Prompt() { return {1, 87, 85, 285, 201, 5, 2, 201, 1}; }

  std::unique_ptr<Session> Open(Session::Options options, ModelRunner* runner = runner_.get()) {
    if (options.prompt_ids.empty()) options.prompt_ids = Prompt();
    return Session::Create(runner, std::move(options), &stop_, &sink_, &usage_).value();
  }
  void ExpectDraftsChangeNothingButTheNumberOfPasses(ModelRunner* alone, ModelRunner* drafting);
  std::vector<int32_t> Response(const Session& session) {
    return {session.response().begin(), session.response().end()};
  }

  static std::shared_ptr<const Model> model_;
  static std::shared_ptr<ModelRunner> runner_, drafting_runner_;
  StopToken stop_;
  RecordingSink sink_;
  Usage usage_;
};
std::shared_ptr<const Model> SessionTest::model_;
std::shared_ptr<ModelRunner> SessionTest::runner_, SessionTest::drafting_runner_;

constexpr SamplingOptions kGreedy = {.temperature = 0};

TEST_F(SessionTest, CommittedEventsAreTheResponse) {
  const auto session = Open({.max_new_tokens = 20});
  ASSERT_TRUE(session->RollOut(kGreedy, Session::Stream::kCommit).ok());
  EXPECT_EQ(sink_.ids, Response(*session));
  EXPECT_EQ(sink_.text, model_->tokenizer().Decode(sink_.ids, true));
  EXPECT_EQ(sink_.text, session->committed_text());
  EXPECT_EQ(session->ahead(), 0);
  EXPECT_EQ(usage_.decoded_tokens, 20);
  EXPECT_EQ(usage_.model_calls, 20);
  EXPECT_EQ(usage_.rollouts, 1);
}

// Verified drafts must leave nothing behind but the time they saved: not in tokens, statistics or hidden states, greedy
// or sampled, whatever else shares the passes, and whether the guesses are good or not.
void SessionTest::ExpectDraftsChangeNothingButTheNumberOfPasses(ModelRunner* alone, ModelRunner* drafting) {
  int64_t accepted = 0, rejected = 0, guessed = 0;
  for (const double temperature : {0.0, 0.3, 1.0}) {
    for (const int position : {0, 3, 17}) {
      const SamplingOptions sampling = {.temperature = temperature};
      struct Rollout {
        std::vector<int32_t> response;
        std::vector<PositionStats> stats;
        torch::Tensor hidden;
        int64_t cached = 0;
        Usage usage;
      };
      const auto run = [&](int max_draft_tokens, ModelRunner* runner) -> Rollout {
        usage_ = {};
        const auto session = Open({.max_new_tokens = 40, .seed = 5, .max_draft_tokens = max_draft_tokens}, runner);
        EXPECT_TRUE(session->RollOut(sampling, Session::Stream::kDraft).ok());
        session->Commit(std::min(position, session->ahead() - 1));
        EXPECT_EQ(session->Propose(77, sampling), absl::OkStatus());
        EXPECT_TRUE((session->Reject(), session->Propose(78, sampling)).ok());
        const SessionState& s = session->state();
        const auto rows = static_cast<int64_t>(s.response.size());
        return {s.response, s.stats, s.hidden.narrow(0, 0, rows).clone(), s.cache.length(), usage_};
      };
      const Rollout plain = run(0, drafting);
      EXPECT_EQ(plain.usage.draft_tokens_accepted + plain.usage.draft_tokens_rejected, 0);
      for (ModelRunner* const runner : {alone, drafting}) {
        const Rollout drafted = run(8, runner);
        EXPECT_EQ(drafted.response, plain.response);
        EXPECT_EQ(drafted.cached, plain.cached);
        EXPECT_TRUE(torch::equal(drafted.hidden, plain.hidden)) << "bit for bit";
        for (size_t i = 0; i < plain.stats.size(); ++i) {
          EXPECT_EQ(drafted.stats[i].argmax, plain.stats[i].argmax);
          EXPECT_EQ(drafted.stats[i].confidence, plain.stats[i].confidence);
        }
        EXPECT_EQ(drafted.usage.decoded_tokens, plain.usage.decoded_tokens);
        EXPECT_EQ(drafted.usage.model_calls, plain.usage.model_calls);
        accepted += drafted.usage.draft_tokens_accepted, rejected += drafted.usage.draft_tokens_rejected;
        EXPECT_EQ(drafted.usage.language_model.forward_passes + drafted.usage.draft_tokens_accepted,
                  plain.usage.language_model.forward_passes);
        guessed += drafted.usage.draft_model.forward_tokens;
        const int64_t by_int8 = drafted.usage.int8_tokens_accepted + drafted.usage.int8_tokens_rejected;
        EXPECT_EQ(by_int8 > 0, runner->drafts());
        EXPECT_LE(by_int8, drafted.usage.draft_tokens_accepted + drafted.usage.draft_tokens_rejected);
      }
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_GT(rejected, 0);
  EXPECT_GT(guessed, 0);
}

TEST_F(SessionTest, DraftsChangeNothingButTheNumberOfPasses) {
  ExpectDraftsChangeNothingButTheNumberOfPasses(runner_.get(), drafting_runner_.get());
}

TEST_F(SessionTest, DraftsChangeNothingButTheNumberOfPassesInBfloat16) {
  const auto model = Model::Load(LanguageModelFolder(), "bfloat16", "cpu", 0).value();
  const auto alone = NewRunner(model), drafting = NewDraftingRunner(model, *alone);
  ExpectDraftsChangeNothingButTheNumberOfPasses(alone.get(), drafting.get());
}

// The second token behind a revision comes as often as the model has it, be it foretold by the rollout before, which
// read another token there, or by the draft model; and so the third.
TEST_F(SessionTest, DraftedTokensAreDrawnFromTheModelsDistribution) {
  constexpr int kRollouts = 1500;
  constexpr int32_t kToken = 77;
  const auto distribution = [&](std::vector<int32_t> ids) {
    const torch::InferenceMode inference;
    KvCache cache(runner_->kv_pool());
    EXPECT_TRUE(cache.Prepare(static_cast<int64_t>(ids.size())).ok());
    const torch::Tensor hidden = model_->body().Extend({{&cache, ids, /*record=*/nullptr, /*last=*/1}});
    return model_->Head(hidden)[0].softmax(-1);
  };
  const auto expect = [](const std::map<int32_t, int>& counts, const torch::Tensor& probabilities) {
    double draws = 0;
    for (const auto& [token, count] : counts) draws += count;
    int compared = 0;
    for (int32_t token = 0; token < probabilities.numel(); ++token) {
      const double expected = probabilities[token].item<double>();
      if (expected * draws < 10) continue;  // too rare for a normal distribution of their number
      const double deviation = std::sqrt(expected * (1 - expected) / draws);
      const auto found = counts.find(token);
      EXPECT_NEAR(found == counts.end() ? 0 : found->second / draws, expected, 5 * deviation) << token;
      ++compared;
    }
    EXPECT_GT(compared, 1);
  };
  std::vector<int32_t> context = Prompt();
  context.push_back(kToken);
  const torch::Tensor second = distribution(context);
  const auto likeliest = second.argmax().item<int32_t>();
  context.push_back(likeliest);
  const torch::Tensor third = distribution(context);
  for (ModelRunner* const runner : {runner_.get(), drafting_runner_.get()}) {
    usage_ = {};
    std::map<int32_t, int> seconds, thirds;
    for (int seed = 1; seed <= kRollouts; ++seed) {
      const auto session =
          Open({.max_new_tokens = 5, .seed = static_cast<uint64_t>(seed), .max_draft_tokens = 8}, runner);
      ASSERT_TRUE(session->RollOut({.temperature = 1}, Session::Stream::kDraft).ok());
      ASSERT_TRUE(session->Propose(kToken, {.temperature = 1}).ok());
      const std::vector<int32_t> response = Response(*session);
      if (response.size() > 1) ++seconds[response[1]];
      if (response.size() > 2 && response[1] == likeliest) ++thirds[response[2]];
    }
    expect(seconds, second);
    expect(thirds, third);
    EXPECT_GT(usage_.draft_tokens_accepted, 0);
    EXPECT_GT(usage_.draft_tokens_rejected, 0);
  }
}

// Two that draft share the draft model's passes and the model's; a prompt may come in between.
TEST_F(SessionTest, DraftsOfSeveralSequencesDoNotMeet) {
  const std::vector<int32_t> other = {5, 201, 17, 300, 2};
  const auto run = [&](const std::vector<int32_t>& prompt, ModelRunner* runner) {
    const StopToken stop;
    RecordingSink sink;
    Usage usage;
    const auto session =
        Session::Create(runner, {.prompt_ids = prompt, .max_new_tokens = 60, .seed = 9}, &stop, &sink, &usage).value();
    EXPECT_EQ(session->RollOut({.temperature = 0.5}, Session::Stream::kCommit), absl::OkStatus());
    return Response(*session);
  };
  const auto alone = run(Prompt(), runner_.get()), other_alone = run(other, runner_.get());
  for (int i = 0; i < 5; ++i) {
    std::vector<int32_t> beside;
    std::thread thread([&] { beside = run(other, drafting_runner_.get()); });
    EXPECT_EQ(run(Prompt(), drafting_runner_.get()), alone);
    thread.join();
    EXPECT_EQ(beside, other_alone);
  }
}

TEST_F(SessionTest, DraftsShowTheTailBehindWhatIsCommitted) {
  const auto session = Open({.max_new_tokens = 12});
  ASSERT_TRUE(session->RollOut(kGreedy, Session::Stream::kDraft).ok());
  EXPECT_TRUE(sink_.ids.empty());
  EXPECT_EQ(sink_.last_draft.token_ids, Response(*session));
  session->Commit(5);
  ASSERT_TRUE(session->Propose(77, kGreedy).ok());
  EXPECT_EQ(sink_.last_draft.position, 5);
  EXPECT_EQ(sink_.last_draft.token_ids.front(), 77);
  std::string joined;
  for (const std::string& text : sink_.last_draft.token_texts) joined += text;
  EXPECT_EQ(joined, sink_.last_draft.text);
}

TEST_F(SessionTest, ARejectedProposalLeavesNoTrace) {
  const auto session = Open({.max_new_tokens = 16});
  ASSERT_TRUE(session->RollOut(kGreedy, Session::Stream::kDraft).ok());
  session->Commit(4);
  const std::vector<int32_t> before = Response(*session);
  const torch::Tensor hidden = session->state().hidden.narrow(0, 0, 16).clone();
  const torch::Tensor keys = session->state().cache.Gather(1, session->state().cache.length()).first;
  ASSERT_TRUE(session->Propose(before[4] == 9 ? 10 : 9, kGreedy).ok());
  EXPECT_NE(Response(*session), before);
  session->Reject();
  EXPECT_EQ(Response(*session), before);
  EXPECT_TRUE(torch::equal(session->state().hidden.narrow(0, 0, 16), hidden));
  EXPECT_TRUE(torch::equal(session->state().cache.Gather(1, session->state().cache.length()).first, keys));
  EXPECT_EQ(session->stats(15).argmax, before[15]);
}

TEST_F(SessionTest, AnAcceptedProposalEqualsDecodingBehindItFromTheStart) {
  const auto session = Open({.max_new_tokens = 16});
  ASSERT_TRUE(session->RollOut(kGreedy, Session::Stream::kDraft).ok());
  session->Commit(4);
  ASSERT_TRUE(session->Propose(9, kGreedy).ok());
  session->Accept();
  const std::vector<int32_t> accepted = Response(*session);

  std::vector<int32_t> prompt = session->state().options.prompt_ids;
  prompt.insert(prompt.end(), accepted.begin(), accepted.begin() + 5);
  const auto fresh = Open({.prompt_ids = prompt, .max_new_tokens = 11});
  ASSERT_TRUE(fresh->RollOut(kGreedy, Session::Stream::kDraft).ok());
  EXPECT_EQ(Response(*fresh), std::vector<int32_t>(accepted.begin() + 5, accepted.end()));
}

TEST_F(SessionTest, AProposedEndOfSequenceEndsTheResponse) {
  const auto session = Open({.max_new_tokens = 16});
  ASSERT_TRUE(session->RollOut(kGreedy, Session::Stream::kDraft).ok());
  session->Commit(4);
  ASSERT_TRUE(session->Propose(2, kGreedy).ok());
  EXPECT_EQ(session->response().size(), 5u);
  EXPECT_EQ(session->finish_reason(), FinishReason::kEndOfSequence);
  session->Reject();
  EXPECT_EQ(session->response().size(), 16u);
}

TEST_F(SessionTest, GenerationEndsBehindAStopSequenceEvenAcrossTokens) {
  const auto whole = Open({.max_new_tokens = 20});
  ASSERT_TRUE(whole->RollOut(kGreedy, Session::Stream::kCommit).ok());
  const std::string text = model_->tokenizer().Decode(whole->response().subspan(0, 7), true);
  const std::string stop = text.substr(text.size() - 3);
  sink_ = RecordingSink();
  const auto stopped = Open({.max_new_tokens = 20, .stop = {"never seen", stop}});
  ASSERT_TRUE(stopped->RollOut(kGreedy, Session::Stream::kCommit).ok());
  EXPECT_EQ(stopped->finish_reason(), FinishReason::kStopSequence);
  EXPECT_NE(sink_.text.find(stop), std::string::npos);
  EXPECT_LT(stopped->response().size(), 20u);
}

TEST_F(SessionTest, TheSameSeedGivesTheSameSample) {
  const auto sample = [&](uint64_t seed) {
    const auto session = Open({.max_new_tokens = 20, .seed = seed});
    EXPECT_TRUE(session->RollOut({.temperature = 1.5}, Session::Stream::kCommit).ok());
    return Response(*session);
  };
  EXPECT_EQ(sample(3), sample(3));
  EXPECT_NE(sample(3), sample(4));
}

TEST_F(SessionTest, CancellingEndsDecodingWithinOneStep) {
  const auto session = Open({.max_new_tokens = 400});
  int64_t seen = 0;
  sink_.on_event = [&] {
    if (sink_.ids.size() == 3) stop_.Stop(StopToken::Reason::kCancelled), seen = usage_.decoded_tokens;
  };
  EXPECT_EQ(session->RollOut(kGreedy, Session::Stream::kCommit),
            absl::CancelledError("the request was cancelled by its caller"));
  EXPECT_EQ(usage_.decoded_tokens, seen);
}

TEST_F(SessionTest, APastDeadlineIsSeenBeforeThePromptIsRun) {
  const StopToken late(absl::Now() - absl::Seconds(1));
  const auto session = Session::Create(runner_.get(), {.prompt_ids = {1, 2, 3}}, &late, &sink_, &usage_).value();
  EXPECT_EQ(session->RollOut(kGreedy, Session::Stream::kCommit),
            absl::DeadlineExceededError("the request's deadline has passed"));
}

TEST_F(SessionTest, PromptsThatDoNotFitAreRefused) {
  const auto error = [&](std::vector<int32_t> ids) {
    return Session::Create(runner_.get(), {.prompt_ids = std::move(ids)}, &stop_, &sink_, &usage_).status();
  };
  EXPECT_EQ(error({}), absl::InvalidArgumentError("messages: the prompt has no tokens; say something"));
  EXPECT_EQ(error(std::vector<int32_t>(512, 5)),
            absl::OutOfRangeError("messages: the prompt has 512 tokens; the model takes 512 together with the answer, "
                                  "so shorten it to at most 511"));
  EXPECT_EQ(error({403}), absl::InvalidArgumentError("messages: token 403 has no embedding in this model (403 rows)"));
}

}  // namespace
}  // namespace nabla
