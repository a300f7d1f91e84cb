// nabla.v1.RewardModel as a client sees it on the wire.
#include "server/reward_service.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <cstring>
#include <future>
#include <sstream>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/reward_conversion.h"
#include "tests/server/reward_replica.h"

namespace nabla {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Numbers = v1::ScoreGradientRequest;

const std::vector<ChatMessage> kQuestion = {{"user", "How many?"}};

class RewardServiceTest : public testing::Test {
 protected:
  void Start(RewardReplicaOptions options = {}) {
    replica_ = std::make_unique<RewardReplica>(std::move(options));
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stub_ = v1::RewardModel::NewStub(
        grpc::CreateCustomChannel(replica_->address(), grpc::InsecureChannelCredentials(), arguments));
    grpc::ClientContext context;
    v1::GetRewardInfoResponse info;
    EXPECT_TRUE(stub_->GetInfo(&context, {}, &info).ok());
    fingerprints_ = info.fingerprints();
  }

  v1::ScoreRequest ScoreRequest(const std::vector<std::vector<int32_t>>& responses) const {
    v1::ScoreRequest request;
    *request.mutable_fingerprints() = fingerprints_;
    *request.mutable_conversation() = ToProto(kQuestion, 8);
    for (const auto& response : responses) SetTokenIds(response, request.add_responses());
    return request;
  }
  Numbers GradientRequest(const std::vector<int32_t>& response, int first) const {
    Numbers request;
    *request.mutable_fingerprints() = fingerprints_;
    *request.mutable_conversation() = ToProto(kQuestion, 8);
    SetTokenIds(response, request.mutable_response());
    request.set_first(static_cast<uint32_t>(first));
    return request;
  }
  grpc::Status Score(const v1::ScoreRequest& request, v1::ScoreResponse* response) {
    grpc::ClientContext context;
    return stub_->Score(&context, request, response);
  }
  grpc::Status Gradient(const Numbers& request, v1::ScoreGradientResponse* response) {
    grpc::ClientContext context;
    return stub_->ScoreGradient(&context, request, response);
  }
  void ExpectScoreError(const v1::ScoreRequest& request, grpc::StatusCode code, const std::string& message) {
    v1::ScoreResponse ignored;
    const grpc::Status status = Score(request, &ignored);
    EXPECT_EQ(status.error_code(), code);
    EXPECT_EQ(status.error_message(), message);
  }
  void ExpectGradientError(const Numbers& request, const std::string& message) {
    v1::ScoreGradientResponse ignored;
    const grpc::Status status = Gradient(request, &ignored);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(status.error_message(), message);
  }
  std::string MetricsText() {
    return prometheus::TextSerializer().Serialize(replica_->metrics().registry()->Collect());
  }

  std::unique_ptr<RewardReplica> replica_;
  std::unique_ptr<v1::RewardModel::Stub> stub_;
  v1::Fingerprints fingerprints_;
};

TEST_F(RewardServiceTest, TellsWhatItServes) {
  Start({.kind = RewardKind::kLikelihood});
  grpc::ClientContext context;
  v1::GetRewardInfoRequest request;
  request.set_include_vocabulary(true);
  v1::GetRewardInfoResponse info;
  ASSERT_TRUE(stub_->GetInfo(&context, request, &info).ok());
  EXPECT_EQ(info.model().name(), "fake");
  EXPECT_EQ(info.model().reward_kind(), "likelihood");
  EXPECT_EQ(info.fingerprints().model(), "00000000000000aa");
  EXPECT_EQ(info.fingerprints().tokenizer().size(), 16u);
  EXPECT_EQ(info.vocabulary_size(), 11u);
  EXPECT_EQ(info.hidden_size(), 4u);
  EXPECT_EQ(info.pad_token_id(), 2u);
  EXPECT_EQ(info.version(), "test");
  ASSERT_EQ(info.token_strings_size(), 11);
  EXPECT_EQ(info.token_strings(10), "token10");
  EXPECT_EQ(info.token_strings(3), "");
  EXPECT_EQ(info.token_strings(4), "\xff") << "token strings are bytes, not always UTF-8";
}

TEST_F(RewardServiceTest, ScoresResponsesInOrder) {
  Start();
  v1::ScoreResponse response;
  ASSERT_TRUE(Score(ScoreRequest({{1, 2}, {}, {10}}), &response).ok());
  EXPECT_THAT(response.rewards(), ElementsAre(14.0 / 3, 9.0 / 3, 19.0 / 3));
  EXPECT_EQ(response.work().forward_passes(), 4u) << "one of them opened the conversation";
  EXPECT_EQ(response.work().forward_tokens(), 8u);
}

TEST_F(RewardServiceTest, ACallWithoutResponsesChecksTheConversation) {
  Start();
  v1::ScoreResponse response;
  ASSERT_TRUE(Score(ScoreRequest({}), &response).ok());
  EXPECT_EQ(response.rewards_size(), 0);
  v1::ScoreRequest request = ScoreRequest({});
  request.mutable_conversation()->mutable_messages(0)->set_role("nobody");
  ExpectScoreError(request, grpc::StatusCode::INVALID_ARGUMENT, "messages: the chat template refuses nobody");
  request = ScoreRequest({});
  request.mutable_conversation()->set_max_response_tokens(65);
  ExpectScoreError(request, grpc::StatusCode::OUT_OF_RANGE,
                   "max_new_tokens: prompt and answer need up to 65 tokens in reward model fake, which takes 64; ask "
                   "for less");
}

TEST_F(RewardServiceTest, AFollowingCallOfTheConversationFindsItsContext) {
  Start();
  v1::ScoreResponse response;
  ASSERT_TRUE(Score(ScoreRequest({}), &response).ok());
  EXPECT_EQ(response.work().forward_tokens(), 5u);
  ASSERT_TRUE(Score(ScoreRequest({{1}}), &response).ok());
  EXPECT_EQ(response.work().forward_tokens(), 1u);
  EXPECT_EQ(replica_->model().opened(), 1);
}

TEST_F(RewardServiceTest, SendsTheGradientOfTheRowsBehindFirst) {
  Start();
  v1::ScoreGradientResponse response;
  ASSERT_TRUE(Gradient(GradientRequest({1, 2, 3}, 1), &response).ok());
  EXPECT_EQ(response.reward(), 23.0 / 3);
  EXPECT_EQ(response.log_probs(), "");
  const std::vector<float> gradient = UnpackFloats(response.input_gradient(), Numbers::FLOAT32, 8).value();
  for (int row = 0; row < 2; ++row) {
    for (int column = 0; column < 4; ++column) {
      EXPECT_EQ(gradient[row * 4 + column], FakeRewardModel::GradientOf(2 + row, row, column));
    }
  }
  Numbers half = GradientRequest({1, 2, 3}, 1);
  half.set_gradient_type(Numbers::BFLOAT16);
  ASSERT_TRUE(Gradient(half, &response).ok());
  EXPECT_EQ(response.input_gradient().size(), 16u);
}

TEST_F(RewardServiceTest, SendsTheLogProbabilitiesAskedForWithoutAnotherPass) {
  Start({.kind = RewardKind::kLikelihood});
  Numbers request = GradientRequest({1, 2, 3}, 1);
  request.set_log_probs_end(1);
  v1::ScoreGradientResponse response;
  ASSERT_TRUE(Gradient(request, &response).ok());
  const int passes = replica_->model().passes();
  EXPECT_EQ(UnpackFloats(response.log_probs(), Numbers::FLOAT32, 11).value()[10], FakeRewardModel::LogProbOf(1, 10));
  request.set_omit_gradient(true);
  request.set_log_probs_begin(1);
  request.set_log_probs_end(2);
  ASSERT_TRUE(Gradient(request, &response).ok());
  EXPECT_EQ(response.input_gradient(), "");
  EXPECT_EQ(response.reward(), 23.0 / 3);
  EXPECT_EQ(UnpackFloats(response.log_probs(), Numbers::FLOAT32, 11).value()[0], FakeRewardModel::LogProbOf(2, 0));
  EXPECT_EQ(replica_->model().passes(), passes);

  // Of another response, or on another replica, it is computed.
  request.mutable_response()->set_token_ids(0, 9);
  ASSERT_TRUE(Gradient(request, &response).ok());
  EXPECT_EQ(response.reward(), 31.0 / 3);
  EXPECT_EQ(replica_->model().passes(), passes + 1);
}

TEST_F(RewardServiceTest, MoreThanOneRowOfLogProbabilitiesIsBounded) {
  RewardReplicaOptions options;
  options.kind = RewardKind::kLikelihood;
  options.service.max_log_prob_bytes = 2 * 11 * sizeof(float);
  Start(options);
  Numbers request = GradientRequest({1, 2, 3}, 0);
  request.set_log_probs_end(3);
  ExpectGradientError(request,
                      "log_probs_end: more than one row must stay within 88 bytes, got 3 rows of 44; ask for fewer a "
                      "call");
  v1::ScoreGradientResponse response;
  request.set_log_probs_begin(1);
  EXPECT_TRUE(Gradient(request, &response).ok());

  options.service.max_log_prob_bytes = 1;
  Start(options);
  request.set_log_probs_begin(2);
  EXPECT_TRUE(Gradient(request, &response).ok()) << "a single row always comes";
}

TEST_F(RewardServiceTest, StreamsTheEmbeddingInChunks) {
  RewardReplicaOptions options;
  const auto bytes = std::make_shared<std::string>(2 * 256 + 12, '\0');
  for (size_t i = 0; i < bytes->size(); ++i) (*bytes)[i] = static_cast<char>(i * 7);
  options.embedding.bytes = *bytes;
  options.embedding.owner = bytes;
  options.service.embedding_chunk_bytes = 256;
  Start(options);
  grpc::ClientContext context;
  v1::FetchEmbeddingRequest request;
  *request.mutable_fingerprints() = fingerprints_;
  const auto reader = stub_->FetchEmbedding(&context, request);
  std::string received;
  std::vector<size_t> sizes;
  std::vector<std::string> dtypes;
  v1::EmbeddingChunk chunk;
  while (reader->Read(&chunk)) {
    received += chunk.data();
    sizes.push_back(chunk.data().size());
    dtypes.push_back(chunk.dtype());
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(received == *bytes);
  EXPECT_THAT(sizes, ElementsAre(256, 256, 12));
  EXPECT_THAT(dtypes, ElementsAre("float32", "", ""));
}

TEST_F(RewardServiceTest, RefusesOtherFingerprintsEverywhere) {
  Start();
  const std::string tokenizer = fingerprints_.tokenizer();
  const std::string message =
      absl::StrCat("this reward service has model fake (fingerprint 00000000000000aa, tokenizer ", tokenizer,
                   ") but its caller connected to fingerprint b, tokenizer ", tokenizer,
                   "; retry, and if that goes on, start every replica with the same model and flags");
  fingerprints_.set_model("b");
  ExpectScoreError(ScoreRequest({{1}}), grpc::StatusCode::FAILED_PRECONDITION, message);
  v1::ScoreGradientResponse ignored;
  EXPECT_EQ(Gradient(GradientRequest({1}, 0), &ignored).error_message(), message);
  grpc::ClientContext context;
  v1::FetchEmbeddingRequest request;
  *request.mutable_fingerprints() = fingerprints_;
  const auto reader = stub_->FetchEmbedding(&context, request);
  v1::EmbeddingChunk chunk;
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_EQ(reader->Finish().error_message(), message);
}

TEST_F(RewardServiceTest, BadFieldsAreNamed) {
  Start();
  const auto invalid = grpc::StatusCode::INVALID_ARGUMENT;
  ExpectScoreError(ScoreRequest({{1}, {1, 11}}), invalid, "responses[1].token_ids[1]: must be below 11, got 11");
  ExpectScoreError(ScoreRequest({std::vector<int32_t>(9)}), invalid,
                   "responses[0].token_ids: has 9 tokens, more than conversation.max_response_tokens, 8");
  ExpectScoreError(ScoreRequest(std::vector<std::vector<int32_t>>(257)), invalid,
                   "responses: must be at most 256, got 257");
  v1::ScoreRequest request = ScoreRequest({});
  request.mutable_conversation()->set_max_response_tokens(0);
  ExpectScoreError(request, invalid, "conversation.max_response_tokens: must be at least 1, got 0");
  request.mutable_conversation()->set_max_response_tokens(0xffffffff);
  ExpectScoreError(request, grpc::StatusCode::OUT_OF_RANGE,
                   "conversation.max_response_tokens: must be at most 1048576, got 4294967295");

  ExpectGradientError(GradientRequest({11}, 0), "response.token_ids[0]: must be below 11, got 11");
  ExpectGradientError(GradientRequest({1, 2}, 2), "first: must be below the 2 tokens of the response, got 2");
  ExpectGradientError(GradientRequest({}, 0), "first: must be below the 0 tokens of the response, got 0");
  Numbers rows = GradientRequest({1, 2}, 1);
  rows.set_log_probs_end(2);
  ExpectGradientError(rows, "log_probs_end: rows must lie in 0 … 1, got 0 … 2");
  rows.set_log_probs_begin(1);
  rows.set_log_probs_end(0);
  ExpectGradientError(rows, "log_probs_end: rows must lie in 0 … 1, got 1 … 0");
  rows.set_log_probs_begin(0);
  rows.set_log_probs_end(1);
  ExpectGradientError(rows, "log_probs_end: only a likelihood has log-probabilities; leave it 0");
  Numbers type = GradientRequest({1, 2}, 1);
  type.set_gradient_type(static_cast<Numbers::NumberType>(7));
  ExpectGradientError(type, "gradient_type: must be FLOAT32 or BFLOAT16, got 7");
}

TEST_F(RewardServiceTest, MoreCallsThanCanWaitAreRefusedWithARetryDelay) {
  RewardReplicaOptions options;
  options.service.calls = {.threads = 1, .max_waiting = 0};
  Start(options);
  replica_->model().Hold();
  v1::ScoreResponse first_response;
  std::thread first([&] { EXPECT_TRUE(Score(ScoreRequest({{1}}), &first_response).ok()); });
  ASSERT_TRUE(replica_->model().AwaitHeld(1));
  v1::ScoreResponse ignored;
  const grpc::Status status = Score(ScoreRequest({{2}}), &ignored);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "the reward service is full (1 calls running, 0 waiting); retry later");
  google::rpc::Status rich;
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(rich.ParseFromString(status.error_details()));
  ASSERT_EQ(rich.details_size(), 1);
  EXPECT_TRUE(rich.details(0).UnpackTo(&retry));
  replica_->model().Release();
  first.join();
}

TEST_F(RewardServiceTest, CallsThatWereGivenUpWhileWaitingNeverStart) {
  RewardReplicaOptions options;
  options.service.calls = {.threads = 1, .max_waiting = 2};
  Start(options);
  replica_->model().Hold();
  v1::ScoreResponse first_response;
  std::thread first([&] { EXPECT_TRUE(Score(ScoreRequest({{1}}), &first_response).ok()); });
  ASSERT_TRUE(replica_->model().AwaitHeld(1));
  v1::ScoreResponse ignored;
  grpc::ClientContext expiring;
  const absl::Duration patience = absl::Milliseconds(20);
  const absl::Time sent = absl::Now();
  expiring.set_deadline(absl::ToChronoTime(sent + patience));
  EXPECT_EQ(stub_->Score(&expiring, ScoreRequest({{2}}), &ignored).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  // The service counts from the call's arrival, which is before its client gave up, and rounds up.
  absl::SleepFor(sent + 2 * patience + absl::Milliseconds(20) - absl::Now());
  replica_->model().Release();
  first.join();
  replica_->service().StartDraining();
  EXPECT_TRUE(replica_->service().AwaitIdle(absl::Now() + absl::FromChrono(kRewardTestPatience)));
  EXPECT_EQ(replica_->model().passes(), 2) << "the first call opened and scored; the second did nothing";
}

TEST_F(RewardServiceTest, DrainingLetsOpenCallsFinishAndRefusesNewOnes) {
  Start();
  replica_->model().Hold();
  v1::ScoreResponse response;
  std::thread open_call([&] { EXPECT_TRUE(Score(ScoreRequest({{1}}), &response).ok()); });
  ASSERT_TRUE(replica_->model().AwaitHeld(1));
  replica_->service().StartDraining();
  EXPECT_FALSE(replica_->service().AwaitIdle(absl::Now()));
  ExpectScoreError(ScoreRequest({{2}}), grpc::StatusCode::UNAVAILABLE,
                   "the reward service is shutting down; retry on another replica");
  replica_->model().Release();
  open_call.join();
  EXPECT_TRUE(replica_->service().AwaitIdle(absl::Now() + absl::FromChrono(kRewardTestPatience)));
  EXPECT_THAT(response.rewards(), ElementsAre(10.0 / 3));
}

TEST_F(RewardServiceTest, MemoryThatRunsOutInACallIsTakenFromIdleContexts) {
  Start();
  v1::ScoreResponse response;
  ASSERT_TRUE(Score(ScoreRequest({{1}}), &response).ok());
  replica_->model().Fail(absl::ResourceExhaustedError("no key/value memory"), /*times=*/1);
  v1::ScoreRequest other = ScoreRequest({{1}});
  other.mutable_conversation()->set_max_response_tokens(9);
  ASSERT_TRUE(Score(other, &response).ok());
  replica_->model().Fail(absl::ResourceExhaustedError("no key/value memory"), /*times=*/9);
  ExpectScoreError(ScoreRequest({{1}}), grpc::StatusCode::RESOURCE_EXHAUSTED, "no key/value memory");
}

TEST_F(RewardServiceTest, ErrorsOfTheModelComeThrough) {
  Start();
  replica_->model().Fail(absl::UnavailableError("the device has failed"), /*times=*/1);
  ExpectScoreError(ScoreRequest({{1}}), grpc::StatusCode::UNAVAILABLE, "the device has failed");
}

TEST_F(RewardServiceTest, RunningCallsAreReadWhenAskedFor) {
  RewardReplicaOptions options;
  options.service.calls = {.threads = 1, .max_waiting = 2};
  Start(options);
  const CallGauges gauges(&replica_->service().calls());
  const auto text = [&] { return prometheus::TextSerializer().Serialize(gauges.Collect()); };
  replica_->model().Hold();
  v1::ScoreResponse ignored;
  std::thread call([&] { EXPECT_TRUE(Score(ScoreRequest({{1}}), &ignored).ok()); });
  ASSERT_TRUE(replica_->model().AwaitHeld(1));
  EXPECT_THAT(text(), HasSubstr("\nnabla_reward_calls_running 1\n"));
  EXPECT_THAT(text(), HasSubstr("\nnabla_reward_calls_waiting 0\n"));
  replica_->model().Release();
  call.join();
  while (replica_->service().calls().running() > 0) std::this_thread::yield();
  EXPECT_THAT(text(), HasSubstr("\nnabla_reward_calls_running 0\n"));
}

TEST_F(RewardServiceTest, CountsCallsByMethodAndCode) {
  Start();
  v1::ScoreResponse ignored;
  Score(ScoreRequest({{1}}), &ignored);
  Score(ScoreRequest({{99}}), &ignored);
  replica_->Stop();
  const std::string metrics = MetricsText();
  EXPECT_THAT(metrics, HasSubstr("nabla_reward_calls_total{code=\"OK\",method=\"Score\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("nabla_reward_calls_total{code=\"INVALID_ARGUMENT\",method=\"Score\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("nabla_reward_calls_total{code=\"OK\",method=\"GetInfo\"} 1"));
  EXPECT_THAT(metrics, HasSubstr("nabla_reward_call_seconds_count{method=\"Score\"} 2"));
  EXPECT_THAT(metrics, HasSubstr("nabla_reward_model_tokens_total{kind=\"forward\"} 6"));
}

}  // namespace
}  // namespace nabla
