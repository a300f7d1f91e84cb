// A real model behind a real connection gives the bits that it gives in the same process, for all kinds of reward.
#include <gtest/gtest.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "engine/pool/engine_pool.h"
#include "engine/reward/embedding_projection.h"
#include "engine/reward/reward_engine.h"
#include "server/listener.h"
#include "server/remote_reward_factory.h"
#include "server/remote_reward_model.h"
#include "server/reward_metrics.h"
#include "server/reward_service.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

const std::vector<ChatMessage> kQuestion = {{"user", "How many apples?"}};
const std::vector<std::vector<int32_t>> kResponses = {
    {10, 40, 90, 200, 17}, {10, 40, 91, 200, 17, 3}, {10}, {7, 300, 402, 0, 1, 2, 55, 56, 57, 58}};

RewardEngineOptions EngineOptions(const std::string& folder, const std::string& kind, const std::string& dtype) {
  return {.model = {.path = folder, .kind = kind, .dtype = dtype, .verdict_yes = "Y", .verdict_no = "N"},
          .device = "cpu",
          .kv_cache_bytes = 8 << 20,
          .threads = 1};
}

// A reward service with a real model.
class ServedReward {
 public:
  explicit ServedReward(const RewardEngineOptions& options, int port = 0)
      : engine_(RewardEngine::Create(options).value()) {
    service_.Serve(
        {.model = &engine_->model(), .fingerprint = engine_->fingerprint(), .embedding = engine_->embedding()});
    listener_ = Listener::Create({.port = port}, {&service_}).value();
    listener_->SetServing(v1::RewardModel::service_full_name(), true);
  }
  ~ServedReward() {
    listener_->Shutdown(absl::InfinitePast());
    service_.AwaitIdle(absl::InfiniteFuture());
  }
  int port() const { return listener_->port(); }

 private:
  const std::unique_ptr<RewardEngine> engine_;
  RewardMetrics metrics_{"test"};
  RewardService service_{{.version = "test"}, &metrics_};
  std::unique_ptr<Listener> listener_;
};

class RemoteRewardBitsTest : public testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  void SetUp() override {
    const auto& [kind, dtype] = GetParam();
    const std::string folder = std::string(kind) == "classifier" ? ClassifierFolder() : JudgeFolder();
    local_ = RewardEngine::Create(EngineOptions(folder, kind, dtype)).value();
    served_ = std::make_unique<ServedReward>(EngineOptions(folder, kind, dtype));
    RemoteRewardModelOptions options;
    options.client.channel.address = address();
    remote_ = RemoteRewardModel::Connect(options, [](EmbeddingTable table) {
                return MakeProjection(std::move(table));
              }).value();
  }

  std::string address() const { return absl::StrCat("127.0.0.1:", served_->port()); }

  static absl::StatusOr<RemoteRewardModel::Projection> MakeProjection(EmbeddingTable table) {
    std::shared_ptr<const EmbeddingProjection> projection =
        EmbeddingProjection::Create(std::move(table), "cpu", nullptr).value();
    return [projection](absl::Span<const float> gradient, int rows) { return projection->Project(gradient, rows); };
  }

  void ExpectSameNumbers(RewardContext& remote, RewardContext& local, const std::vector<int32_t>& response) {
    EXPECT_EQ(remote.Score(response).value(), local.Score(response).value());
    const int size = static_cast<int>(response.size());
    for (const int first : {0, size / 2, size - 1}) {
      for (const bool scored : {true, false}) ExpectSameGradient(remote, local, response, first, scored);
    }
  }

  void ExpectSameGradient(RewardContext& remote, RewardContext& local, const std::vector<int32_t>& response, int first,
                          bool scored) {
    const RewardGradient got = remote.ScoreGradient(response, first, scored).value();
    const RewardGradient expected = local.ScoreGradient(response, first, scored).value();
    EXPECT_EQ(got.reward, expected.reward);
    ASSERT_EQ(got.rows, expected.rows);
    ASSERT_EQ(got.hidden_size, expected.hidden_size);
    EXPECT_EQ(got.input_gradient, expected.input_gradient);
    EXPECT_EQ(remote_->ProjectToVocabulary(got.input_gradient, got.rows).value(),
              local_->model().ProjectToVocabulary(expected.input_gradient, got.rows).value());
    ASSERT_EQ(got.log_probs == nullptr, expected.log_probs == nullptr);
    if (got.log_probs == nullptr) return;
    EXPECT_EQ(got.log_probs(0, 1).value(), expected.log_probs(0, 1).value());
    EXPECT_EQ(got.log_probs(0, got.rows).value(), expected.log_probs(0, got.rows).value());
  }

  std::unique_ptr<RewardEngine> local_;
  std::unique_ptr<ServedReward> served_;
  std::unique_ptr<RemoteRewardModel> remote_;
};

TEST_P(RemoteRewardBitsTest, RemoteAndLocalGiveTheSameBits) {
  const auto remote = remote_->Open(kQuestion, 32).value();
  const auto local = local_->model().Open(kQuestion, 32).value();
  for (const std::vector<int32_t>& response : kResponses) ExpectSameNumbers(*remote, *local, response);
}

class NoSink : public EventSink {
 public:
  void OnEvent(Event) override {}
};

absl::StatusOr<ReasonResult> Answer(EnginePool& pool) {
  NoSink sink;
  absl::StatusOr<ReasonResult> answer;
  absl::Notification done;
  const ReasonRequest request = {
      .messages = kQuestion,
      .strategy = NablaOptions{.rollout = {.temperature = 1.0}, .refinement = {.learning_rate = 0.3}},
      .max_new_tokens = 24,
      .seed = 11};
  EXPECT_TRUE(pool.Submit(request, {}, &sink,
                          [&](absl::StatusOr<ReasonResult> result) {
                            answer = std::move(result);
                            done.Notify();
                          })
                  .ok());
  done.WaitForNotification();
  return answer;
}

EnginePoolOptions PoolOptions() {
  return {.model = {.path = LanguageModelFolder(), .dtype = "float32"}, .devices = {"cpu"}, .threads = 1};
}

ReasonResult AnswerWith(const RewardModelOptions& reward_model) {
  EnginePoolOptions options = PoolOptions();
  options.reward_model = reward_model;
  return Answer(*EnginePool::Create(options).value()).value();
}

// As nabla-server does with --reward_model and with --reward_address; in this process what scoring leaves is recorded.
TEST_P(RemoteRewardBitsTest, AWholeRequestGetsTheSameAnswer) {
  const auto& [kind, dtype] = GetParam();
  const auto pool =
      EnginePool::Create(PoolOptions(), RemoteRewardFactory({.address = address()}, nullptr, LogToStderr())).value();
  const ReasonResult remote = Answer(*pool).value();
  const ReasonResult local = AnswerWith(
      EngineOptions(std::string(kind) == "classifier" ? ClassifierFolder() : JudgeFolder(), kind, dtype).model);
  EXPECT_EQ(remote.token_ids, local.token_ids);
  EXPECT_EQ(*remote.reward, *local.reward) << "bit for bit";
  EXPECT_EQ(*remote.initial_reward, *local.initial_reward) << "bit for bit";
  EXPECT_GT(local.usage.gradient_steps, 0);
  EXPECT_EQ(remote.usage.gradient_steps, local.usage.gradient_steps);
}

TEST_P(RemoteRewardBitsTest, AlsoWhileOthersUseTheService) {
  std::vector<std::thread> requests;
  for (int i = 0; i < 4; ++i) {
    requests.emplace_back([&, i] {
      const std::vector<ChatMessage> question = {{"user", absl::StrCat("How many apples does ", i, " have?")}};
      const auto remote = remote_->Open(question, 32).value();
      const auto local = local_->model().Open(question, 32).value();
      for (const std::vector<int32_t>& response : kResponses) ExpectSameNumbers(*remote, *local, response);
    });
  }
  for (std::thread& request : requests) request.join();
}

TEST_P(RemoteRewardBitsTest, TheSameConversationsAreRefusedInTheSameWords) {
  EXPECT_EQ(remote_->Open(kQuestion, 5000).status(), local_->model().Open(kQuestion, 5000).status());
  EXPECT_EQ(remote_->Open(kQuestion, 5000).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(remote_->Open({{"user", "<<<response>>>"}}, 8).status(),
            local_->model().Open({{"user", "<<<response>>>"}}, 8).status());
  EXPECT_EQ(remote_->TokenStrings(), local_->model().TokenStrings());
  EXPECT_EQ(remote_->info().max_length, local_->model().info().max_length);
  EXPECT_EQ(remote_->pad_token_id(), local_->model().pad_token_id());
}

INSTANTIATE_TEST_SUITE_P(Kinds, RemoteRewardBitsTest,
                         testing::Values(std::tuple("classifier", "float32"), std::tuple("likelihood", "float32"),
                                         std::tuple("verdict", "float32"), std::tuple("likelihood", "bfloat16")),
                         [](const auto& info) {
                           return absl::StrCat(std::get<0>(info.param), "_", std::get<1>(info.param));
                         });

// A classifier goes, a likelihood of another model takes its place.
TEST(ReplacedRewardTest, RequestsGoOnWithTheModelThatTheServiceComesBackWith) {
  const RewardEngineOptions classifier = EngineOptions(ClassifierFolder(), "classifier", "float32");
  const RewardEngineOptions judge = EngineOptions(JudgeFolder(), "likelihood", "float32");
  auto served = std::make_unique<ServedReward>(classifier);
  const int port = served->port();
  const auto pool = EnginePool::Create(PoolOptions(), RemoteRewardFactory({.address = absl::StrCat("127.0.0.1:", port)},
                                                                          nullptr, LogToStderr()))
                        .value();
  const ReasonResult first = Answer(*pool).value();
  EXPECT_EQ(pool->models().reward_model->reward_kind, "classifier");
  served = nullptr;
  served = std::make_unique<ServedReward>(judge, port);
  absl::StatusOr<ReasonResult> second = Answer(*pool);
  const absl::Time end = absl::Now() + absl::Minutes(1);
  while (absl::IsUnavailable(second.status()) && absl::Now() < end) second = Answer(*pool);  // until it is connected to
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(pool->models().reward_model->reward_kind, "likelihood");
  const ReasonResult expected = AnswerWith(judge.model);
  EXPECT_EQ(second->token_ids, expected.token_ids);
  EXPECT_EQ(*second->reward, *expected.reward) << "bit for bit";
  EXPECT_NE(*second->reward, *first.reward);
}

TEST(RewardFingerprintTest, DiffersWithWhatDecidesTheNumbers) {
  const auto fingerprint = [](const std::string& kind, const std::string& dtype, const std::string& question) {
    RewardEngineOptions options = EngineOptions(JudgeFolder(), kind, dtype);
    options.model.verdict_question = question;
    return RewardEngine::Create(options).value()->fingerprint();
  };
  const std::string verdict = fingerprint("verdict", "float32", "Right?");
  EXPECT_EQ(fingerprint("verdict", "float32", "Right?"), verdict);
  EXPECT_NE(fingerprint("verdict", "float32", "Wrong?"), verdict);
  EXPECT_NE(fingerprint("verdict", "bfloat16", "Right?"), verdict);
  EXPECT_EQ(fingerprint("likelihood", "float32", "Wrong?"), fingerprint("likelihood", "float32", "Right?"));
  EXPECT_NE(fingerprint("likelihood", "float32", "Right?"), verdict);
}

}  // namespace
}  // namespace nabla
