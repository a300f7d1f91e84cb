// The client half against services with a fake model, over real connections.
#include "server/remote_reward_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "server/call_context.h"
#include "server/trace_context.h"
#include "tests/server/reward_replica.h"

namespace nabla {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

const std::vector<ChatMessage> kQuestion = {{"user", "How many?"}};

// Fast and without retries of gRPC's own, unless a test asks for them.
RemoteRewardModelOptions Options(const std::string& address) {
  RemoteRewardModelOptions options;
  options.client.channel.address = address;
  options.client.channel.first_backoff = absl::Milliseconds(1);
  options.client.channel.max_backoff = absl::Milliseconds(5);
  options.client.channel.max_reconnect_backoff = absl::Milliseconds(100);
  options.client.breaker.max_failures = 1000;
  return options;
}

std::unique_ptr<RemoteRewardModel> Connect(const RemoteRewardModelOptions& options) {
  absl::StatusOr<std::unique_ptr<RemoteRewardModel>> model = RemoteRewardModel::Connect(options, NoProjection);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

// Whether `action` succeeds before the test's patience is at its end.
template <typename Action>
bool Eventually(const Action& action) {
  const absl::Time end = absl::Now() + absl::FromChrono(kRewardTestPatience);
  while (absl::Now() < end) {
    if (action()) return true;
    std::this_thread::yield();
  }
  return false;
}

TEST(RemoteRewardModelTest, LooksLikeTheModelItStandsFor) {
  RewardReplica replica({.kind = RewardKind::kLikelihood});
  EmbeddingTable table;
  const auto keep = [&](EmbeddingTable received) {
    table = std::move(received);
    return NoProjection({});
  };
  const auto model = RemoteRewardModel::Connect(Options(replica.address()), keep).value();
  EXPECT_EQ(model->kind(), RewardKind::kLikelihood);
  EXPECT_EQ(model->name(), "fake");
  EXPECT_EQ(model->vocabulary_size(), 11);
  EXPECT_EQ(model->pad_token_id(), 2);
  EXPECT_EQ(model->TokenStrings(), replica.model().TokenStrings());
  EXPECT_EQ(model->info().architecture, "FakeForCausalLM");
  EXPECT_EQ(model->info().vocabulary_size, 12) << "rows of the matrix, as the model itself says";
  EXPECT_EQ(table.dtype, "float32");
  EXPECT_EQ(table.vocabulary_size, 11);
  EXPECT_EQ(table.hidden_size, 4);
  EXPECT_EQ(table.bytes, FakeRewardModel::Embedding().bytes);
}

TEST(RemoteRewardModelTest, GivesTheNumbersOfTheModel) {
  RewardReplica replica({.kind = RewardKind::kLikelihood});
  const auto model = Connect(Options(replica.address()));
  const auto remote = model->Open(kQuestion, 8).value();
  const auto local = replica.model().Open(kQuestion, 8).value();
  const std::vector<int32_t> response = {5, 0, 7};
  EXPECT_EQ(remote->Score(response).value(), local->Score(response).value());
  EXPECT_EQ(remote->Score({}).value(), local->Score({}).value());
  const RewardGradient got = remote->ScoreGradient(response, 1, false).value();
  const RewardGradient expected = local->ScoreGradient(response, 1, false).value();
  EXPECT_EQ(got.reward, expected.reward);
  EXPECT_EQ(got.rows, 2);
  EXPECT_EQ(got.hidden_size, 4);
  EXPECT_EQ(got.input_gradient, expected.input_gradient);
  for (const auto& [begin, end] : {std::pair(0, 1), std::pair(0, 2), std::pair(1, 2), std::pair(1, 1)}) {
    EXPECT_EQ(got.log_probs(begin, end).value(), expected.log_probs(begin, end).value());
  }
  EXPECT_EQ(remote->work().forward_passes, local->work().forward_passes);
  EXPECT_EQ(remote->work().forward_tokens, local->work().forward_tokens);
  EXPECT_EQ(remote->work().backward_tokens, local->work().backward_tokens);
}

TEST(RemoteRewardModelTest, TheFirstRowOfLogProbabilitiesComesWithTheGradient) {
  RewardReplica replica({.kind = RewardKind::kLikelihood});
  std::atomic<int> calls{0};
  RemoteRewardModelOptions options = Options(replica.address());
  options.client.on_rpc = [&](absl::StatusCode) { ++calls; };
  const auto model = Connect(options);
  RewardGradient gradient;
  {
    const auto context = model->Open(kQuestion, 8).value();
    gradient = context->ScoreGradient(std::vector<int32_t>{5, 0, 7}, 1, false).value();
  }
  const int before = calls;
  EXPECT_EQ(gradient.log_probs(0, 1).value()[10], FakeRewardModel::LogProbOf(1, 10));
  EXPECT_EQ(calls, before);
  EXPECT_EQ(gradient.log_probs(0, 2).value()[21], FakeRewardModel::LogProbOf(2, 10)) << "after its context has gone";
  EXPECT_EQ(calls, before + 1);
}

TEST(RemoteRewardModelTest, OtherKindsHaveNoLogProbabilities) {
  RewardReplica replica({.kind = RewardKind::kVerdict});
  const auto model = Connect(Options(replica.address()));
  const RewardGradient gradient =
      model->Open(kQuestion, 8).value()->ScoreGradient(std::vector<int32_t>{5, 0}, 0, false).value();
  EXPECT_EQ(gradient.log_probs, nullptr);
}

TEST(RemoteRewardModelTest, GradientsMayTravelInHalfTheBytes) {
  RewardReplica replica;
  RemoteRewardModelOptions options = Options(replica.address());
  options.bfloat16_gradients = true;
  const RewardGradient gradient =
      Connect(options)->Open(kQuestion, 8).value()->ScoreGradient(std::vector<int32_t>{5}, 0, false).value();
  EXPECT_NE(gradient.input_gradient[0], FakeRewardModel::GradientOf(5, 0, 0));
  EXPECT_NEAR(gradient.input_gradient[0], FakeRewardModel::GradientOf(5, 0, 0), 1e-3);
}

TEST(RemoteRewardModelTest, ErrorsOfTheModelComeThroughAsInTheSameProcess) {
  RewardReplica replica;
  const auto model = Connect(Options(replica.address()));
  EXPECT_EQ(model->Open({{"nobody", "x"}}, 8).status(), replica.model().Open({{"nobody", "x"}}, 8).status());
  EXPECT_EQ(model->Open(kQuestion, 65).status(), replica.model().Open(kQuestion, 65).status());
  replica.model().Fail(absl::ResourceExhaustedError("no key/value memory"), /*times=*/9);
  EXPECT_EQ(model->Open(kQuestion, 8).status(),
            absl::UnavailableError(absl::StrCat("reward service at ", replica.address(), ": no key/value memory")));
}

TEST(RemoteRewardModelTest, CountsEveryCallByItsCode) {
  RewardReplica replica;
  std::mutex mu;
  std::vector<absl::StatusCode> codes;
  RemoteRewardModelOptions options = Options(replica.address());
  options.client.on_rpc = [&](absl::StatusCode code) {
    const std::lock_guard<std::mutex> lock(mu);
    codes.push_back(code);
  };
  const auto model = Connect(options);
  EXPECT_FALSE(model->Open({{"nobody", "x"}}, 8).ok());
  EXPECT_THAT(codes, ElementsAre(absl::StatusCode::kOk, absl::StatusCode::kOk, absl::StatusCode::kInvalidArgument));
}

TEST(RemoteRewardModelTest, AServiceThatIsNotThereIsUnavailable) {
  int port = 0;
  {
    RewardReplica gone;
    port = gone.port();
  }
  RemoteRewardModelOptions options = Options(absl::StrCat("127.0.0.1:", port));
  options.client.connect_timeout = absl::Milliseconds(200);
  EXPECT_EQ(
      RemoteRewardModel::Connect(options, NoProjection).status(),
      absl::UnavailableError(absl::StrCat("reward service at 127.0.0.1:", port,
                                          ": no replica was ready within 200ms; is nabla-reward-server running?")));
}

TEST(RemoteRewardModelTest, ConnectingWaitsForTheServiceToComeUp) {
  ListenerOptions listener;
  {
    RewardReplica probe;
    listener.port = probe.port();
  }
  std::unique_ptr<RemoteRewardModel> model;
  std::thread connecting([&] { model = Connect(Options(absl::StrCat("127.0.0.1:", listener.port))); });
  RewardReplica replica({.listener = listener});
  connecting.join();
  EXPECT_NE(model, nullptr);
}

TEST(RemoteRewardModelTest, AServerThatServesSomethingElseCountsAsNotReady) {
  const auto other = Listener::Create({}, {}).value();
  RemoteRewardModelOptions options = Options(absl::StrCat("127.0.0.1:", other->port()));
  options.client.connect_timeout = absl::Milliseconds(200);
  EXPECT_EQ(
      RemoteRewardModel::Connect(options, NoProjection).status(),
      absl::UnavailableError(absl::StrCat("reward service at 127.0.0.1:", other->port(),
                                          ": no replica was ready within 200ms; is nabla-reward-server running?")));
}

TEST(RemoteRewardModelTest, OneUnavailableAnswerIsRetried) {
  RewardReplica replica;
  const auto model = Connect(Options(replica.address()));
  replica.model().Fail(absl::UnavailableError("try again"), /*times=*/1);
  EXPECT_TRUE(model->Open(kQuestion, 8).ok());
}

TEST(RemoteRewardModelTest, AReplicaThatIsFullIsTriedAgain) {
  RewardReplica replica;
  const auto model = Connect(Options(replica.address()));
  replica.model().Fail(absl::ResourceExhaustedError("no key/value memory"), /*times=*/1);
  EXPECT_TRUE(model->Open(kQuestion, 8).ok());
}

TEST(RemoteRewardModelTest, RetriesAreBounded) {
  RewardReplica replica;
  const auto model = Connect(Options(replica.address()));
  replica.model().Fail(absl::UnavailableError("the device has failed"), /*times=*/1000);
  EXPECT_EQ(model->Open(kQuestion, 8).status(),
            absl::UnavailableError(absl::StrCat("reward service at ", replica.address(),
                                                ": the device has failed; is nabla-reward-server running?")));
  EXPECT_EQ(replica.model().passes(), 4);
  // Every failure costs one of ten tokens; below half of them nothing is retried.
  EXPECT_FALSE(model->Open(kQuestion, 8).ok());
  EXPECT_FALSE(model->Open(kQuestion, 8).ok());
  EXPECT_LE(replica.model().passes(), 4 + 1 + 2);
}

TEST(RemoteRewardModelTest, TheBreakerKeepsCallsFromAServiceThatFails) {
  RewardReplica replica;
  RemoteRewardModelOptions options = Options(replica.address());
  options.client.channel.max_attempts = 1;
  std::atomic<int64_t> seconds{0};
  std::atomic<int> calls{0};
  options.client.on_rpc = [&](absl::StatusCode) { ++calls; };
  options.client.breaker = {
      .max_failures = 2, .cool_down = absl::Seconds(2), .now = [&] { return absl::FromUnixSeconds(seconds); }};
  const auto model = Connect(options);
  replica.model().Fail(absl::UnavailableError("the device has failed"), /*times=*/2);
  EXPECT_FALSE(model->Open(kQuestion, 8).ok());
  EXPECT_FALSE(model->Open(kQuestion, 8).ok());
  const int passes = replica.model().passes();
  const int counted = calls;
  EXPECT_EQ(
      model->Open(kQuestion, 8).status(),
      absl::UnavailableError(absl::StrCat("reward service at ", replica.address(),
                                          ": the last 2 calls failed; it is left alone for 2s before the next try")));
  EXPECT_EQ(replica.model().passes(), passes);
  EXPECT_EQ(calls, counted) << "none was made";
  seconds = 2;
  EXPECT_TRUE(model->Open(kQuestion, 8).ok());
  EXPECT_TRUE(model->Open(kQuestion, 8).ok());
}

TEST(RemoteRewardModelTest, AServiceThatComesBackIsUsedAgain) {
  auto replica = std::make_unique<RewardReplica>();
  const auto model = Connect(Options(replica->address()));
  const auto context = model->Open(kQuestion, 8).value();
  ListenerOptions listener;
  listener.port = replica->port();
  replica = nullptr;
  const absl::Status status = context->Score(std::vector<int32_t>{1}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), StartsWith(absl::StrCat("reward service at 127.0.0.1:", listener.port)));
  EXPECT_THAT(std::string(status.message()), HasSubstr("; is nabla-reward-server running?"));
  replica = std::make_unique<RewardReplica>(RewardReplicaOptions{.listener = listener});
  EXPECT_TRUE(Eventually([&] { return context->Score(std::vector<int32_t>{1}).ok(); }));
}

// In the middle of a request, and for the next one.
TEST(RemoteRewardModelTest, AServiceThatComesBackWithAnotherModelHasReplacedIt) {
  auto replica = std::make_unique<RewardReplica>();
  const auto model = Connect(Options(replica->address()));
  const auto context = model->Open(kQuestion, 8).value();
  ListenerOptions listener;
  listener.port = replica->port();
  replica = nullptr;
  EXPECT_EQ(context->Score(std::vector<int32_t>{1}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(model->replaced()) << "only gone";
  replica = std::make_unique<RewardReplica>(
      RewardReplicaOptions{.model_fingerprint = "00000000000000bb", .listener = listener});
  EXPECT_TRUE(Eventually([&] { return !context->Score(std::vector<int32_t>{1}).ok() && model->replaced(); }));
  const std::string words =
      absl::StrCat("reward service at ", replica->address(),
                   ": this reward service has model fake (fingerprint 00000000000000bb, tokenizer ");
  const std::vector<int32_t> response = {1};
  for (const absl::Status& status :
       {context->Score(response).status(), context->ScoreGradient(response, 0, false).status(),
        model->Open(kQuestion, 8).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), StartsWith(words));
  }
  EXPECT_TRUE(Connect(Options(replica->address()))->Open(kQuestion, 8).ok());
}

TEST(RemoteRewardModelTest, ARequestThatConnectsAnewStopsWhenItIsTold) {
  int port = 0;
  {
    RewardReplica gone;
    port = gone.port();
  }
  const StopToken stop(absl::Now() + absl::Milliseconds(50));
  EXPECT_EQ(RemoteRewardModel::Connect(Options(absl::StrCat("127.0.0.1:", port)), NoProjection, &stop).status(),
            absl::DeadlineExceededError("the request's deadline has passed"));
}

TEST(RemoteRewardModelTest, CallsGoToAllReplicasInTurnAndToTheLivingWhenOneDies) {
  RewardReplica first, second;
  const auto model = Connect(Options(absl::StrCat(first.address(), ",", second.address())));
  EXPECT_TRUE(Eventually([&] {
    EXPECT_TRUE(model->Open(kQuestion, 8).ok());
    return first.model().opened() > 0 && second.model().opened() > 0;
  }));
  first.Stop();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(model->Open(kQuestion, 8).ok());
}

TEST(RemoteRewardModelTest, WhatADrainingReplicaRefusesIsRetriedOnAnother) {
  RewardReplica first, second;
  const auto model = Connect(Options(absl::StrCat(first.address(), ",", second.address())));
  EXPECT_TRUE(Eventually([&] {
    EXPECT_TRUE(model->Open(kQuestion, 8).ok());
    return first.model().opened() > 0 && second.model().opened() > 0;
  }));
  first.service().StartDraining();
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(model->Open(kQuestion, 8).ok());
}

TEST(RemoteRewardModelTest, AReplicaThatSaysItIsNotReadyIsLeftAlone) {
  RewardReplica first, second;
  const auto model = Connect(Options(absl::StrCat(first.address(), ",", second.address())));
  const auto calls_of_first = [&] {
    const int before = first.model().passes();
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(model->Open({{"user", absl::StrCat(before, i)}}, 8).ok());
    return first.model().passes() - before;
  };
  EXPECT_TRUE(Eventually([&] { return calls_of_first() > 0; }));
  first.listener().SetServing(v1::RewardModel::service_full_name(), false);
  EXPECT_TRUE(Eventually([&] { return calls_of_first() == 0; }));
}

TEST(RemoteRewardModelTest, TheRequestsDeadlineEndsACall) {
  RewardReplica replica;
  const auto model = Connect(Options(replica.address()));
  replica.model().Hold();
  const StopToken stop(absl::Now() + absl::Milliseconds(50));
  EXPECT_EQ(model->Open(kQuestion, 8, &stop).status(),
            absl::DeadlineExceededError("the request's deadline has passed"));
  EXPECT_EQ(model->Open(kQuestion, 8, &stop).status(), absl::DeadlineExceededError("the request's deadline has passed"))
      << "without a call";
}

TEST(RemoteRewardModelTest, CancellingTheRequestEndsACall) {
  RewardReplica replica;
  const auto model = Connect(Options(replica.address()));
  replica.model().Hold();
  StopToken stop;
  std::thread caller([&] {
    EXPECT_EQ(model->Open(kQuestion, 8, &stop).status(),
              absl::CancelledError("the request was cancelled by its caller"));
  });
  EXPECT_TRUE(replica.model().AwaitHeld(1));
  stop.Stop(StopToken::Reason::kCancelled);
  caller.join();
}

TEST(RemoteRewardModelTest, AServiceThatDoesNotAnswerInTimeIsUnavailable) {
  RewardReplica replica;
  RemoteRewardModelOptions options = Options(replica.address());
  options.client.call_timeout = absl::Milliseconds(50);
  const auto model = Connect(options);
  replica.model().Hold();
  StopToken stop;
  EXPECT_EQ(model->Open(kQuestion, 8, &stop).status(),
            absl::UnavailableError(absl::StrCat("reward service at ", replica.address(), ": no answer within 50ms")));
  EXPECT_EQ(model->Open(kQuestion, 8).status(),
            absl::UnavailableError(absl::StrCat("reward service at ", replica.address(), ": no answer within 50ms")));
}

TEST(RemoteRewardModelTest, ManyRequestsShareOneModel) {
  RewardReplica replica({.kind = RewardKind::kLikelihood});
  const auto model = Connect(Options(replica.address()));
  std::vector<std::thread> requests;
  for (int i = 0; i < 8; ++i) {
    requests.emplace_back([&, i] {
      const std::vector<ChatMessage> question = {{"user", std::string(i + 1, '?')}};
      const auto context = model->Open(question, 8).value();
      for (int j = 0; j < 10; ++j) {
        const std::vector<int32_t> response = {i, j};
        EXPECT_EQ(context->Score(response).value(), FakeRewardModel::RewardOf(question, response));
        const RewardGradient gradient = context->ScoreGradient(response, 0, false).value();
        EXPECT_EQ(gradient.input_gradient[4], FakeRewardModel::GradientOf(j, 1, 0));
        EXPECT_EQ(gradient.log_probs(0, 2).value()[11], FakeRewardModel::LogProbOf(1, 0));
      }
    });
  }
  for (std::thread& request : requests) request.join();
}

TEST(RemoteRewardModelTest, ATokenFileThatIsNotThereIsNamed) {
  RemoteRewardModelOptions options = Options("127.0.0.1:1");
  options.client.token_file = "no/such/file";
  EXPECT_EQ(RemoteRewardModel::Connect(options, NoProjection).status(),
            absl::InvalidArgumentError("--reward_token_file: cannot read no/such/file: No such file or directory"));
}

// Answers nothing; keeps the traceparents of its calls.
class TraceKeeper final : public v1::RewardModel::Service {
 public:
  grpc::Status Score(grpc::ServerContext* context, const v1::ScoreRequest* /*request*/,
                     v1::ScoreResponse* /*response*/) override {
    return Keep(*context);
  }
  grpc::Status ScoreGradient(grpc::ServerContext* context, const v1::ScoreGradientRequest* /*request*/,
                             v1::ScoreGradientResponse* /*response*/) override {
    return Keep(*context);
  }
  std::vector<std::string> traceparents() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return traceparents_;
  }

 private:
  grpc::Status Keep(const grpc::ServerContext& context) {
    const std::lock_guard<std::mutex> lock(mu_);
    traceparents_.emplace_back(Header(context, kTraceparentHeader));
    return grpc::Status::OK;
  }

  mutable std::mutex mu_;
  std::vector<std::string> traceparents_ ABSL_GUARDED_BY(mu_);
};

TEST(RewardClientTest, EveryCallIsASpanOfItsRequestsTrace) {
  TraceKeeper service;
  const auto listener = Listener::Create({}, {&service}).value();
  listener->SetServing(v1::RewardModel::service_full_name(), true);
  RewardClientOptions options;
  options.channel.address = absl::StrCat("127.0.0.1:", listener->port());
  const auto client = RewardClient::Create(options).value();
  const std::optional<TraceContext> trace = ParseTraceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  v1::ScoreResponse response;
  v1::ScoreGradientResponse gradient;
  EXPECT_EQ(client->Score({}, &response, nullptr, trace), absl::OkStatus());
  EXPECT_EQ(client->ScoreGradient({}, &gradient, nullptr, trace), absl::OkStatus());
  EXPECT_EQ(client->Score({}, &response, nullptr, std::nullopt), absl::OkStatus());
  const std::vector<std::string> sent = service.traceparents();
  ASSERT_EQ(sent.size(), 3u);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(sent[i], MatchesRegex("00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]+-01"));
    EXPECT_THAT(sent[i], Not(HasSubstr("00f067aa0ba902b7")));
  }
  EXPECT_NE(sent[0], sent[1]);
  EXPECT_EQ(sent[2], "");
}

// Sends a piece of an embedding, and nothing more for as long as somebody waits for it.
class StuckService final : public v1::RewardModel::Service {
 public:
  grpc::Status FetchEmbedding(grpc::ServerContext* context, const v1::FetchEmbeddingRequest* /*request*/,
                              grpc::ServerWriter<v1::EmbeddingChunk>* writer) override {
    v1::EmbeddingChunk chunk;
    chunk.set_data("piece");
    writer->Write(chunk);
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  }
};

class StuckEmbeddingTest : public testing::Test {
 protected:
  StuckEmbeddingTest() { listener_->SetServing(v1::RewardModel::service_full_name(), true); }

  absl::Status Fetch(const StopToken& stop, const RewardClient::TakeChunk& take) {
    RewardClientOptions options;
    options.channel.address = absl::StrCat("127.0.0.1:", listener_->port());
    return RewardClient::Create(options).value()->FetchEmbedding({}, take, &stop);
  }

 private:
  StuckService service_;
  const std::unique_ptr<Listener> listener_ = Listener::Create({}, {&service_}).value();
};

TEST_F(StuckEmbeddingTest, IsGivenUpAtTheRequestsDeadline) {
  const auto take = [](const v1::EmbeddingChunk&) { return absl::OkStatus(); };
  EXPECT_EQ(Fetch(StopToken(absl::Now() + absl::Milliseconds(50)), take),
            absl::DeadlineExceededError("the request's deadline has passed"));
}

TEST_F(StuckEmbeddingTest, IsGivenUpWhenTheRequestIsCancelled) {
  StopToken stop;
  std::string taken;
  const auto cancel = [&](const v1::EmbeddingChunk& chunk) {
    taken += chunk.data();
    stop.Stop(StopToken::Reason::kCancelled);
    return absl::OkStatus();
  };
  EXPECT_EQ(Fetch(stop, cancel), absl::CancelledError("the request was cancelled by its caller"));
  EXPECT_EQ(taken, "piece");
}

TEST_F(StuckEmbeddingTest, EndsWhereItCannotBeUsed) {
  const auto refuse = [](const v1::EmbeddingChunk&) { return absl::FailedPreconditionError("too large"); };
  EXPECT_EQ(Fetch(StopToken(), refuse), absl::FailedPreconditionError("too large"));
}

}  // namespace
}  // namespace nabla
