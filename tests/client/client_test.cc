// The client library against a server in the same process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "client/health_client.h"
#include "client/reasoner_client.h"
#include "tests/server/server_fixture.h"
#include "tests/server/test_certificates.h"

namespace nabla {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ReasonerClientTest : public ServerTest {
 protected:
  void SetUp() override {
    StartServer({});
    absl::StatusOr<std::unique_ptr<ReasonerClient>> client = ReasonerClient::Create(address());
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  std::unique_ptr<ReasonerClient> client_;
};

TEST_F(ReasonerClientTest, GivesEveryEventAndReturnsFinished) {
  std::thread worker([this] {
    const std::shared_ptr<FakeRequest> request = pool()->Next();
    request->Emit(CommittedEvent{{1}, "x"});
    request->Finish(ReasonResult{.text = "x"});
  });
  std::vector<int> kinds;
  const auto finished = client_->Reason(
      Question(), [&](const v1::ReasonEvent& event) { kinds.push_back(event.event_case()); }, {.request_id = "mine"});
  worker.join();
  ASSERT_TRUE(finished.ok()) << finished.status();
  EXPECT_EQ(finished->text(), "x");
  EXPECT_THAT(kinds, ElementsAre(v1::ReasonEvent::kCommitted, v1::ReasonEvent::kFinished));
  EXPECT_THAT(AwaitLog(1)[0], HasSubstr("request_id=mine"));
}

TEST_F(ReasonerClientTest, CancelEndsRunningAndLaterCalls) {
  CancelHandle cancel;
  std::thread worker([&] {
    const std::shared_ptr<FakeRequest> request = pool()->Next();
    cancel.Cancel();
    EXPECT_TRUE(request->AwaitCancelled());
    request->Finish(absl::CancelledError("cancelled"));
  });
  EXPECT_EQ(client_->Reason(Question(), nullptr, {.cancel = &cancel}).status().code(), absl::StatusCode::kCancelled);
  worker.join();
  EXPECT_TRUE(cancel.cancelled());
  EXPECT_EQ(client_->GetInfo({.cancel = &cancel}).status().code(), absl::StatusCode::kCancelled);
}

TEST_F(ReasonerClientTest, ADeadlineEndsTheCall) {
  std::thread worker([this] {
    const std::shared_ptr<FakeRequest> request = pool()->Next();
    EXPECT_TRUE(request->AwaitCancelled());
    request->Finish(absl::DeadlineExceededError("late"));
  });
  EXPECT_EQ(client_->Reason(Question(), nullptr, {.deadline = absl::Now() + absl::Milliseconds(500)}).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  worker.join();
}

TEST_F(ReasonerClientTest, ServerErrorsAreNotMistakenForAMissingServer) {
  pool()->RefuseWith(absl::UnavailableError("the server is shutting down; retry on another server"));
  const absl::Status status = client_->Reason(Question(), nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "the server is shutting down; retry on another server");
  EXPECT_FALSE(IsUnreachable(status));
}

TEST(ReasonerClientCreateTest, AMissingServerIsUnreachable) {
  const auto client = ReasonerClient::Create("127.0.0.1:1");
  ASSERT_TRUE(client.ok());
  EXPECT_TRUE(IsUnreachable((*client)->GetInfo().status()));
}

TEST(ReasonerClientCreateTest, AnEmptyAddressIsAnError) {
  EXPECT_EQ(ReasonerClient::Create("").status(),
            absl::InvalidArgumentError("the server's address is empty; expected host:port"));
}

// A server of "server.test" with TLS, who knows the one token "secret".
class SecureClientTest : public ServerTest {
 protected:
  void Start(const std::string& client_ca = "") {
    const IssuedCertificate certificate = authority_.Issue("server.test");
    ServerOptions options;
    options.listener.tls = {.certificate_file = folder_.Write("server.crt", certificate.certificate),
                            .key_file = folder_.Write("server.key", certificate.key)};
    if (!client_ca.empty()) options.listener.tls.client_ca_file = folder_.Write("clients.crt", client_ca);
    options.auth_tokens_file =
        folder_.Write("tokens", absl::StrCat("tokens { name: 'alice' sha256: '", kSecret, "' }"));
    StartServer(options);
  }

  // What a client with all it needs is given.
  ChannelOptions Good() const {
    return {.address = address(),
            .tls_ca_file = folder_.Write("ca.crt", authority_.certificate()),
            .tls_server_name = "server.test",
            .token_file = folder_.Write("token", "secret\n")};
  }

  static absl::Status GetInfo(const ChannelOptions& options) {
    const absl::StatusOr<std::unique_ptr<ReasonerClient>> client = ReasonerClient::Create(options);
    return client.ok() ? (*client)->GetInfo().status() : client.status();
  }

  static constexpr char kSecret[] = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";  // of "secret"
  const TestFolder folder_;
  const TestAuthority authority_{"Test authority"};
};

TEST_F(SecureClientTest, TlsAndATokenReachTheServer) {
  Start();
  EXPECT_EQ(GetInfo(Good()), absl::OkStatus());
  const absl::StatusOr<bool> serving = IsServing(Good(), "nabla.v1.Reasoner", {});
  ASSERT_TRUE(serving.ok()) << serving.status();
  EXPECT_TRUE(*serving);
  ChannelOptions no_token = Good();
  no_token.token_file = "";
  EXPECT_EQ(GetInfo(no_token), absl::UnauthenticatedError(
                                   "this server needs a token; send it as metadata \"authorization: Bearer TOKEN\""));
}

TEST_F(SecureClientTest, AServerThatIsNotTrustedIsUnreachable) {
  Start();
  ChannelOptions another = Good();
  another.tls_ca_file = folder_.Write("another.crt", TestAuthority("Another").certificate());
  EXPECT_TRUE(IsUnreachable(GetInfo(another)));
  ChannelOptions other_name = Good();
  other_name.tls_server_name = "other.test";
  EXPECT_TRUE(IsUnreachable(GetInfo(other_name)));
  EXPECT_TRUE(IsUnreachable(GetInfo({.address = address(), .tls = true})));
  EXPECT_TRUE(IsUnreachable(GetInfo({.address = address()})));
}

TEST_F(SecureClientTest, AClientShowsItsCertificate) {
  const TestAuthority clients("Client authority");
  Start(clients.certificate());
  const IssuedCertificate alice = clients.Issue("alice");
  ChannelOptions options = Good();
  EXPECT_TRUE(IsUnreachable(GetInfo(options)));
  options.tls_certificate_file = folder_.Write("alice.crt", alice.certificate);
  options.tls_key_file = folder_.Write("alice.key", alice.key);
  EXPECT_EQ(GetInfo(options), absl::OkStatus());
}

TEST(ConnectTest, ATokenGoesInTheClearToThisMachineAlone) {
  const TestFolder folder;
  const std::string token = folder.Write("token", "secret");
  for (const char* address : {"127.0.0.1:1", "127.1.2.3:1", "localhost:1", "[::1]:1", "unix:socket"}) {
    const absl::StatusOr<Connection> connection = Connect({.address = address, .token_file = token});
    ASSERT_TRUE(connection.ok()) << connection.status();
    EXPECT_EQ(connection->authorization, "Bearer secret");
  }
  for (const std::string address : {"10.0.0.1:1", "127.0.0.1.example.org:1", "localhost.example.org:1", "[::2]:1"}) {
    EXPECT_EQ(Connect({.address = address, .token_file = token}).status(),
              absl::InvalidArgumentError(absl::StrCat("--token_file: a token is not sent in the clear to another "
                                                      "machine, ",
                                                      address, "; turn on TLS with --tls or --tls_ca")));
    EXPECT_TRUE(Connect({.address = address, .tls = true, .token_file = token}).ok());
  }
}

TEST(ConnectTest, UnusableFilesAreErrorsThatNameTheFlag) {
  const TestFolder folder;
  const TestAuthority authority("Test authority");
  const IssuedCertificate alice = authority.Issue("alice");
  const std::string certificate = folder.Write("alice.crt", alice.certificate);
  const std::string key = folder.Write("alice.key", alice.key);
  const std::string text = folder.Write("text", "two words");
  const std::string missing = folder.path() + "/missing";
  const auto error = [](ChannelOptions options) {
    options.address = "127.0.0.1:1";
    const absl::Status status = Connect(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(error({.tls_certificate_file = certificate}),
            "--tls_certificate: needs its private key; give it with --tls_key");
  EXPECT_EQ(error({.tls_key_file = key}), "--tls_key: has no effect without --tls_certificate");
  EXPECT_EQ(error({.tls_ca_file = missing}),
            absl::StrCat("--tls_ca: cannot read ", missing, ": No such file or directory"));
  EXPECT_EQ(error({.tls_ca_file = folder.path()}),
            absl::StrCat("--tls_ca: cannot read ", folder.path(), ": Is a directory"));
  EXPECT_EQ(error({.tls_ca_file = text}), absl::StrCat("--tls_ca: ", text, " holds no PEM certificate"));
  EXPECT_EQ(error({.tls_certificate_file = key, .tls_key_file = key}),
            absl::StrCat("--tls_certificate: ", key, " holds no PEM certificate"));
  EXPECT_EQ(error({.tls_certificate_file = certificate, .tls_key_file = certificate}),
            absl::StrCat("--tls_key: ", certificate, " holds no PEM private key"));
  for (const std::string& token : {text, folder.Write("empty", "\n")}) {
    EXPECT_EQ(error({.token_file = token}),
              absl::StrCat("--token_file: ", token, " must hold one token of visible ASCII characters without spaces"));
  }
}

}  // namespace
}  // namespace nabla
