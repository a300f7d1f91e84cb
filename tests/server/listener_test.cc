// Ports, health per service, TLS, mutual TLS and certificates replaced under way.
#include "server/listener.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <mutex>

#include "tests/server/health_client.h"
#include "tests/server/test_certificates.h"

namespace nabla {
namespace {

constexpr int kUnavailable = static_cast<int>(grpc::StatusCode::UNAVAILABLE);
const std::string kUnreachable = absl::StrCat("code ", kUnavailable);

class ListenerTest : public testing::Test {
 protected:
  static std::unique_ptr<Listener> Listen(const ListenerOptions& options) {
    absl::StatusOr<std::unique_ptr<Listener>> listener = Listener::Create(options, {});
    EXPECT_TRUE(listener.ok()) << listener.status();
    return listener.ok() ? *std::move(listener) : nullptr;
  }

  static std::string Error(const TlsOptions& tls) {
    return std::string(Listener::Create({.tls = tls}, {}).status().message());
  }

  static std::shared_ptr<grpc::Channel> InTheClear(const Listener& listener) {
    return grpc::CreateChannel(HostPort("127.0.0.1", listener.port()), grpc::InsecureChannelCredentials());
  }

  // A connection of its own that trusts `authority` and shows `client`.
  static std::shared_ptr<grpc::Channel> Secure(const Listener& listener, const std::string& authority,
                                               const IssuedCertificate& client = {}) {
    grpc::ChannelArguments arguments;
    arguments.SetSslTargetNameOverride("server.test");
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(
        HostPort("127.0.0.1", listener.port()),
        grpc::SslCredentials(
            {.pem_root_certs = authority, .pem_private_key = client.key, .pem_cert_chain = client.certificate}),
        arguments);
  }

  TlsOptions WriteServerFiles(const IssuedCertificate& server) {
    return {.certificate_file = folder_.Write("server.crt", server.certificate),
            .key_file = folder_.Write("server.key", server.key)};
  }

  LogSink Log() {
    return [this](const LogEvent& event) {
      const std::lock_guard<std::mutex> lock(mu_);
      log_.push_back(event.Format(LogFormat::kLogfmt, absl::UnixEpoch()));
    };
  }
  std::vector<std::string> log() {
    const std::lock_guard<std::mutex> lock(mu_);
    return log_;
  }

  const TestFolder folder_;
  const TestAuthority authority_{"Test authority"};

 private:
  std::mutex mu_;
  std::vector<std::string> log_;
};

TEST_F(ListenerTest, TheProcessIsAliveAndAServiceIsWhatItsOwnerSays) {
  const std::unique_ptr<Listener> listener = Listen({});
  const auto channel = InTheClear(*listener);
  EXPECT_EQ(Health(channel, ""), "SERVING");
  EXPECT_EQ(Health(channel, "nabla.v1.Reasoner"), absl::StrCat("code ", grpc::StatusCode::NOT_FOUND));
  listener->SetServing("nabla.v1.Reasoner", false);
  EXPECT_EQ(Health(channel, "nabla.v1.Reasoner"), "NOT_SERVING");
  listener->SetServing("nabla.v1.Reasoner", true);
  EXPECT_EQ(Health(channel, "nabla.v1.Reasoner"), "SERVING");
  EXPECT_EQ(Health(channel, ""), "SERVING");
}

TEST_F(ListenerTest, ReflectionListsTheServices) {
  const std::unique_ptr<Listener> listener = Listen({});
  std::string response;
  // ServerReflectionRequest{list_services: "*"}; a bidirectional method takes a unary call.
  ASSERT_TRUE(CallWithBytes(InTheClear(*listener), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                            "\x3a\x01*", &response)
                  .ok());
  EXPECT_THAT(response, testing::HasSubstr("grpc.health.v1.Health"));
}

TEST_F(ListenerTest, ATakenPortIsAnError) {
  const std::unique_ptr<Listener> listener = Listen({});
  const absl::Status taken = Listener::Create({.port = listener->port()}, {}).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(taken.message(), absl::StrCat("cannot listen on 127.0.0.1:", listener->port(),
                                          ": the port is in use or the host is not an address of this machine; choose "
                                          "another with --port or --host"));
}

TEST_F(ListenerTest, ShutdownTwiceIsShutdown) {
  const std::unique_ptr<Listener> listener = Listen({});
  const auto channel = InTheClear(*listener);
  EXPECT_EQ(Health(channel, ""), "SERVING");
  listener->Shutdown(absl::Now());
  listener->Shutdown(absl::Now());
  EXPECT_EQ(Health(channel, ""), kUnreachable);
}

TEST_F(ListenerTest, TlsServesThoseWhoTrustTheAuthority) {
  const std::unique_ptr<Listener> listener = Listen({.tls = WriteServerFiles(authority_.Issue("server.test"))});
  EXPECT_EQ(Health(Secure(*listener, authority_.certificate()), ""), "SERVING");
  EXPECT_EQ(Health(Secure(*listener, TestAuthority("Another").certificate()), ""), kUnreachable);
  EXPECT_EQ(Health(InTheClear(*listener), ""), kUnreachable);
}

TEST_F(ListenerTest, MutualTlsServesOnlyClientsThatTheAuthorityHasSigned) {
  TlsOptions tls = WriteServerFiles(authority_.Issue("server.test"));
  const TestAuthority client_authority("Client authority");
  tls.client_ca_file = folder_.Write("clients.crt", client_authority.certificate());
  const std::unique_ptr<Listener> listener = Listen({.tls = tls});
  const auto health = [&](const IssuedCertificate& client) {
    return Health(Secure(*listener, authority_.certificate(), client), "");
  };
  EXPECT_EQ(health(client_authority.Issue("alice")), "SERVING");
  EXPECT_EQ(health({}), kUnreachable);
  EXPECT_EQ(health(authority_.Issue("mallory")), kUnreachable);
}

TEST_F(ListenerTest, NewCertificatesAreUsedWithoutARestart) {
  const std::unique_ptr<Listener> listener =
      Listen({.tls = WriteServerFiles(authority_.Issue("server.test")), .log = Log()});
  const auto open = Secure(*listener, authority_.certificate());
  EXPECT_EQ(Health(open, ""), "SERVING");
  const TestAuthority next_authority("Next authority");
  WriteServerFiles(next_authority.Issue("server.test"));
  EXPECT_EQ(Health(Secure(*listener, next_authority.certificate()), ""), "SERVING");
  EXPECT_EQ(Health(Secure(*listener, authority_.certificate()), ""), kUnreachable);
  EXPECT_EQ(Health(open, ""), "SERVING") << "a connection that is open stays open";
  EXPECT_THAT(log(), testing::ElementsAre(testing::HasSubstr("event=certificates_reloaded")));
}

TEST_F(ListenerTest, ABrokenNewCertificateLeavesTheOldOne) {
  const std::unique_ptr<Listener> listener =
      Listen({.tls = WriteServerFiles(authority_.Issue("server.test")), .log = Log()});
  EXPECT_EQ(Health(Secure(*listener, authority_.certificate()), ""), "SERVING");
  const std::string key = folder_.Write("server.key", authority_.Issue("server.test").key);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Health(Secure(*listener, authority_.certificate()), ""), "SERVING");
  EXPECT_THAT(log(), testing::ElementsAre(testing::EndsWith(absl::StrCat(
                         "event=certificates_not_reloaded message=\"--tls_key: ", key,
                         " is not the private key of the certificate in ", folder_.path(), "/server.crt\""))))
      << "said once, not at every handshake";
}

TEST_F(ListenerTest, UnusableFilesAreErrorsThatNameTheFlag) {
  const TlsOptions good = WriteServerFiles(authority_.Issue("server.test"));
  const std::string text = folder_.Write("text", "no certificate");
  const std::string missing = folder_.path() + "/missing";
  EXPECT_EQ(Error({.certificate_file = good.certificate_file}),
            "--tls_certificate: needs its private key; give it with --tls_key");
  EXPECT_EQ(Error({.key_file = good.key_file}), "--tls_key: has no effect without --tls_certificate");
  EXPECT_EQ(Error({.client_ca_file = text}), "--tls_client_ca: has no effect without --tls_certificate");
  EXPECT_EQ(Error({.certificate_file = missing, .key_file = good.key_file}),
            absl::StrCat("--tls_certificate: cannot read ", missing, ": No such file or directory"));
  EXPECT_EQ(Error({.certificate_file = folder_.path(), .key_file = good.key_file}),
            absl::StrCat("--tls_certificate: cannot read ", folder_.path(), ": Is a directory"));
  EXPECT_EQ(Error({.certificate_file = text, .key_file = good.key_file}),
            absl::StrCat("--tls_certificate: ", text, " holds no PEM certificate"));
  EXPECT_EQ(Error({.certificate_file = good.certificate_file, .key_file = text}),
            absl::StrCat("--tls_key: ", text, " holds no PEM private key without a password"));
  TlsOptions bad_ca = good;
  bad_ca.client_ca_file = text;
  EXPECT_EQ(Error(bad_ca), absl::StrCat("--tls_client_ca: ", text, " holds no PEM certificate"));
}

TEST(IsLoopbackTest, KnowsThisMachine) {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]", "0:0::1"})
    EXPECT_TRUE(IsLoopback(host));
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "example.org", "127.example.org", "127.", "[::2]"})
    EXPECT_FALSE(IsLoopback(host));
}

}  // namespace
}  // namespace nabla
