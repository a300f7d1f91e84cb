// Ports, health, tokens and draining of the running reward server.
#include "server/reward_server.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <thread>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/reward_replica.h"
#include "tests/server/test_certificates.h"

namespace nabla {
namespace {

using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

class RewardServerTest : public testing::Test {
 protected:
  void Start(RewardServerOptions options = {}) {
    options.version = "test";
    options.listener.log = [this](const LogEvent& event) {
      const std::lock_guard<std::mutex> lock(mu_);
      log_.push_back(event.Format(LogFormat::kLogfmt, absl::UnixEpoch()));
    };
    absl::StatusOr<std::unique_ptr<RewardServer>> server = RewardServer::Create(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
  }
  void Serve() {
    server_->Serve({.model = &model_, .fingerprint = "aa", .embedding = FakeRewardModel::Embedding()}, [this] {
      const std::lock_guard<std::mutex> lock(mu_);
      return not_ready_;
    });
  }
  // The token is "secret"; `limits` are fields of its entry.
  void StartAskingForToken(const TestFolder& folder, const std::string& limits = "") {
    constexpr char kHash[] =
        "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";  // printf %s secret | sha256sum
    Start({.auth_tokens_file = folder.Write(
               "tokens.textproto", absl::StrCat("tokens { name: \"nabla\" ", limits, " sha256: \"", kHash, "\" }\n"))});
    Serve();
  }
  void SetNotReady(const std::string& why) {
    const std::lock_guard<std::mutex> lock(mu_);
    not_ready_ = why;
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", server_->port()); }

  grpc::health::v1::HealthCheckResponse::ServingStatus Health(const std::string& service) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse response;
    EXPECT_TRUE(grpc::health::v1::Health::NewStub(channel_)->Check(&context, request, &response).ok());
    return response.status();
  }
  grpc::Status GetInfo() {
    grpc::ClientContext context;
    v1::GetRewardInfoResponse response;
    return v1::RewardModel::NewStub(channel_)->GetInfo(&context, {}, &response);
  }

  FakeRewardModel model_;
  std::mutex mu_;
  std::string not_ready_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> log_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<RewardServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

constexpr char kTraceparent[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
constexpr char kService[] = "nabla.v1.RewardModel";
constexpr auto kServing = grpc::health::v1::HealthCheckResponse::SERVING;
constexpr auto kNotServing = grpc::health::v1::HealthCheckResponse::NOT_SERVING;

TEST_F(RewardServerTest, IsReadyOnceItHasItsModel) {
  Start();
  EXPECT_EQ(Health(""), kServing);
  EXPECT_EQ(Health(kService), kNotServing);
  EXPECT_EQ(GetInfo().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(GetInfo().error_message(), "the reward service is loading its model; retry later");
  Serve();
  EXPECT_EQ(Health(kService), kServing);
  EXPECT_TRUE(GetInfo().ok());
}

TEST_F(RewardServerTest, IsNotReadyWhileItsModelIsNot) {
  Start({.watchdog_period = absl::Milliseconds(1)});
  Serve();
  SetNotReady("the device has failed");
  while (Health(kService) != kNotServing) std::this_thread::yield();
  EXPECT_EQ(Health(""), kServing);
  SetNotReady("");
  while (Health(kService) != kServing) std::this_thread::yield();
}

TEST_F(RewardServerTest, DrainingFinishesOpenCallsAndClosesThePort) {
  Start();
  Serve();
  RemoteRewardModelOptions options;
  options.client.channel.address = address();
  options.client.channel.max_attempts = 1;
  const auto remote = RemoteRewardModel::Connect(options, NoProjection).value();
  model_.Hold();
  std::thread open_call([&] { EXPECT_TRUE(remote->Open({{"user", "x"}}, 8).ok()); });
  ASSERT_TRUE(model_.AwaitHeld(1));
  std::thread draining([&] { server_->Drain(); });
  while (Health(kService) != kNotServing) std::this_thread::yield();
  model_.Release();
  open_call.join();
  draining.join();
  EXPECT_EQ(remote->Open({{"user", "x"}}, 8).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(RewardServerTest, OpensItsPortsAndNamesOneThatIsTaken) {
  Start({.metrics_port = 0});
  EXPECT_GT(server_->metrics_port(), 0);
  EXPECT_EQ(RewardServer::Create({.listener = {.port = server_->port()}}).status(),
            absl::UnavailableError(absl::StrCat("cannot listen on 127.0.0.1:", server_->port(),
                                                ": the port is in use or the host is not an address of this machine; "
                                                "choose another with --port or --host")));
}

TEST_F(RewardServerTest, AnOpenListenerIsLoggedAtTheStart) {
  Start({.listener = {.host = "0.0.0.0"}});
  const std::lock_guard<std::mutex> lock(mu_);
  ASSERT_EQ(log_.size(), 1u);
  EXPECT_NE(log_[0].find("level=warning event=open_listener host=0.0.0.0"), std::string::npos) << log_[0];
}

TEST_F(RewardServerTest, ATokensLimitsHoldForTheEmbeddingButNotForGetInfo) {
  const TestFolder folder;
  StartAskingForToken(folder, "requests_per_minute: 1");
  const auto stub = v1::RewardModel::NewStub(channel_);
  v1::GetRewardInfoResponse info;
  for (int i = 0; i < 3; ++i) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer secret");
    EXPECT_TRUE(stub->GetInfo(&context, {}, &info).ok());
  }
  EXPECT_EQ(GetInfo().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  v1::FetchEmbeddingRequest request;
  *request.mutable_fingerprints() = info.fingerprints();
  for (const auto expected : {grpc::StatusCode::OK, grpc::StatusCode::RESOURCE_EXHAUSTED}) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer secret");
    const auto reader = stub->FetchEmbedding(&context, request);
    v1::EmbeddingChunk chunk;
    while (reader->Read(&chunk)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), expected);
  }
}

TEST_F(RewardServerTest, ShowsItsTokenToAServerThatAsksForOne) {
  const TestFolder folder;
  StartAskingForToken(folder);
  RemoteRewardModelOptions options;
  options.client.channel.address = address();
  EXPECT_EQ(RemoteRewardModel::Connect(options, NoProjection).status().code(), absl::StatusCode::kUnavailable);
  options.client.token_file = folder.Write("token", "secret\n");
  const auto remote = RemoteRewardModel::Connect(options, NoProjection).value();
  EXPECT_TRUE(remote->Open({{"user", "x"}}, 8).ok());
  folder.Write("token", "wrong");
  const absl::Status refused = remote->Open({{"user", "x"}}, 8).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(refused.message().find("refuses this server ("), std::string::npos) << refused;
}

TEST_F(RewardServerTest, ATokenFileThatGoesBadFailsRequestsAndIsReadAgain) {
  const TestFolder folder;
  StartAskingForToken(folder);
  RemoteRewardModelOptions options;
  options.client.channel.address = address();
  const std::string file = options.client.token_file = folder.Write("token", "secret\n");
  const auto remote = RemoteRewardModel::Connect(options, NoProjection).value();
  const absl::Status unusable = absl::UnavailableError(
      absl::StrCat("--reward_token_file: ", file, " must hold one token of visible ASCII characters without spaces"));
  for (const char* text : {"", "secret\nsecret\n", "\xef\xbb\xbfsecret", "sec\ret"}) {
    folder.Write("token", text);
    EXPECT_EQ(remote->Open({{"user", "x"}}, 8).status(), unusable);
    EXPECT_EQ(RemoteRewardModel::Connect(options, NoProjection).status().code(), absl::StatusCode::kInvalidArgument);
  }
  folder.Write("token", "secret");
  EXPECT_TRUE(remote->Open({{"user", "x"}}, 8).ok());
}

TEST_F(RewardServerTest, CallsThatFailAreLoggedWithTheirTrace) {
  const TestFolder folder;
  StartAskingForToken(folder);
  RemoteRewardModelOptions options;
  options.client.channel.address = address();
  options.client.token_file = folder.Write("token", "secret");
  const auto remote = RemoteRewardModel::Connect(options, NoProjection).value();
  EXPECT_TRUE(remote->Open({{"user", "x"}}, 8, nullptr, kTraceparent).ok());
  EXPECT_FALSE(remote->Open({{"nobody", "x"}}, 8, nullptr, kTraceparent).ok());
  EXPECT_FALSE(remote->Open({{"nobody", "x"}}, 8).ok());
  EXPECT_EQ(GetInfo().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  server_->Drain();
  const std::lock_guard<std::mutex> lock(mu_);
  std::vector<std::string> failed;
  for (const std::string& line : log_) {
    if (line.find("event=call_failed") != std::string::npos) failed.push_back(line.substr(line.find("method=")));
  }
  EXPECT_THAT(
      failed,
      UnorderedElementsAre(
          StartsWith("method=Score trace_id=4bf92f3577b34da6a3ce929d0e0e4736 client=nabla code=INVALID_ARGUMENT "
                     "message=\"messages: the chat template refuses nobody\" duration_seconds="),
          StartsWith("method=Score client=nabla code=INVALID_ARGUMENT "),
          StartsWith("method=GetInfo code=UNAUTHENTICATED ")));
}

// What both ends need, written to `folder`; the client's address is to be set.
struct MutualTls {
  TlsOptions server;
  RewardChannelOptions client;
};

MutualTls IssueByNewAuthority(const TestFolder& folder) {
  const TestAuthority authority("Test CA");
  const IssuedCertificate served = authority.Issue("reward.test"), client = authority.Issue("nabla-server");
  const std::string ca = folder.Write("ca.crt", authority.certificate());
  return {.server = {.certificate_file = folder.Write("server.crt", served.certificate),
                     .key_file = folder.Write("server.key", served.key),
                     .client_ca_file = ca},
          .client = {.tls_ca_file = ca,
                     .tls_certificate_file = folder.Write("client.crt", client.certificate),
                     .tls_key_file = folder.Write("client.key", client.key),
                     .tls_server_name = "reward.test"}};
}

TEST_F(RewardServerTest, IsReachedByMutualTls) {
  const TestFolder folder;
  const MutualTls tls = IssueByNewAuthority(folder);
  RewardServerOptions server_options;
  server_options.listener.tls = tls.server;
  Start(server_options);
  Serve();
  RemoteRewardModelOptions options;
  options.client.connect_timeout = absl::Milliseconds(300);
  options.client.channel = {
      .address = address(), .tls_ca_file = tls.client.tls_ca_file, .tls_server_name = tls.client.tls_server_name};
  EXPECT_EQ(RemoteRewardModel::Connect(options, NoProjection).status().code(), absl::StatusCode::kUnavailable)
      << "it shows no certificate";
  options.client.channel = tls.client;
  options.client.channel.address = address();
  options.client.channel.tls_server_name = "another.test";
  EXPECT_EQ(RemoteRewardModel::Connect(options, NoProjection).status().code(), absl::StatusCode::kUnavailable)
      << "it wants another server";
  options.client.channel.tls_server_name = tls.client.tls_server_name;
  options.client.connect_timeout = absl::FromChrono(kRewardTestPatience);
  const auto remote = RemoteRewardModel::Connect(options, NoProjection).value();
  EXPECT_TRUE(remote->Open({{"user", "x"}}, 8).ok());
}

TEST_F(RewardServerTest, ItsClientsUseNewCertificatesWithoutARestart) {
  const TestFolder folder;
  const MutualTls tls = IssueByNewAuthority(folder);
  RewardServerOptions server_options;
  server_options.listener.tls = tls.server;
  Start(server_options);
  Serve();
  RemoteRewardModelOptions options;
  options.client.channel = tls.client;
  options.client.channel.address = address();
  const auto remote = RemoteRewardModel::Connect(options, NoProjection).value();
  EXPECT_TRUE(remote->Open({{"user", "x"}}, 8).ok());
  server_options.listener.port = server_->port();
  IssueByNewAuthority(folder);  // in the same files
  server_.reset();
  Start(server_options);
  Serve();
  while (!remote->Open({{"user", "x"}}, 8).ok()) std::this_thread::yield();
}

}  // namespace
}  // namespace nabla
