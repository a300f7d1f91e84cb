#include "server/authenticator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/status.h"
#include "tests/server/test_certificates.h"

namespace nabla {
namespace {

// printf %s secret | sha256sum
constexpr char kSecret[] = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
constexpr char kOther[] = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

const absl::Time kNow = absl::UnixEpoch() + absl::Hours(1);

class AuthenticatorTest : public testing::Test {
 protected:
  std::unique_ptr<Authenticator> Create(const std::string& tokens) {
    path_ = folder_.Write("tokens", tokens);
    absl::StatusOr<std::unique_ptr<Authenticator>> authenticator = Authenticator::Create(
        path_, [this](const LogEvent& event) { log_.push_back(event.Format(LogFormat::kLogfmt, absl::UnixEpoch())); });
    EXPECT_TRUE(authenticator.ok()) << authenticator.status();
    return authenticator.ok() ? *std::move(authenticator) : nullptr;
  }

  // What is wrong with the file, behind its name.
  std::string Error(const std::string& tokens) {
    path_ = folder_.Write("tokens", tokens);
    const absl::Status status = Authenticator::Create(path_, LogToStderr()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    const std::string prefix = absl::StrCat("--auth_tokens: ", path_);
    EXPECT_THAT(std::string(status.message()), testing::StartsWith(prefix));
    return std::string(status.message().substr(prefix.size()));
  }

  static std::string Token(const std::string& name, const std::string& sha256, const std::string& more = "") {
    return absl::StrCat("tokens { name: '", name, "' sha256: '", sha256, "' ", more, " }\n");
  }

  static absl::Duration RetryDelay(const absl::Status& status) {
    google::rpc::Status rich;
    google::rpc::RetryInfo retry_info;
    EXPECT_TRUE(rich.ParseFromString(ToGrpcStatus(status).error_details()));
    EXPECT_TRUE(rich.details_size() == 1 && rich.details(0).UnpackTo(&retry_info));
    return absl::Seconds(retry_info.retry_delay().seconds()) + absl::Nanoseconds(retry_info.retry_delay().nanos());
  }

  const TestFolder folder_;
  std::string path_;
  std::vector<std::string> log_;
};

TEST_F(AuthenticatorTest, ATokenIsKnownByItsHash) {
  const auto authenticator = Create(Token("alice", kSecret) + Token("bob", kOther));
  EXPECT_TRUE(authenticator->required());
  for (const char* header : {"Bearer secret", "bearer secret", "Bearer  secret "}) {
    const absl::StatusOr<Caller> caller = authenticator->CheckToken(header, kNow);
    ASSERT_TRUE(caller.ok()) << caller.status();
    EXPECT_EQ(caller->client, "alice");
  }
}

TEST_F(AuthenticatorTest, WithoutAKnownTokenNobodyComesIn) {
  const auto authenticator = Create(Token("alice", kSecret));
  EXPECT_EQ(
      authenticator->CheckToken("", kNow).status(),
      absl::UnauthenticatedError("this server needs a token; send it as metadata \"authorization: Bearer TOKEN\""));
  EXPECT_EQ(authenticator->CheckToken("Basic c2VjcmV0", kNow).status(),
            absl::UnauthenticatedError("authorization: must be \"Bearer TOKEN\""));
  for (const char* header : {"Bearer Secret", "Bearer ", "Bearer secret2"}) {
    EXPECT_EQ(authenticator->CheckToken(header, kNow).status(),
              absl::UnauthenticatedError("authorization: this token is not known here"));
  }
}

TEST_F(AuthenticatorTest, ConcurrentRequestsAreCountedAsLongAsTheirCallersLive) {
  const auto authenticator = Create(Token("alice", kSecret, "max_concurrent_requests: 2"));
  absl::StatusOr<Caller> first = authenticator->CheckToken("Bearer secret", kNow);
  const absl::StatusOr<Caller> second = authenticator->CheckToken("Bearer secret", kNow);
  EXPECT_TRUE(first.ok() && second.ok());
  const absl::Status third = authenticator->CheckToken("Bearer secret", kNow).status();
  EXPECT_EQ(third.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(third.message(), "token \"alice\" has 2 requests open, which is its limit; retry when one has ended");
  EXPECT_EQ(RetryDelay(third), absl::Seconds(1));
  first->place.reset();
  EXPECT_TRUE(authenticator->CheckToken("Bearer secret", kNow).ok());
}

TEST_F(AuthenticatorTest, RequestsAMinuteRefillAsTimeGoesBy) {
  const auto authenticator = Create(Token("alice", kSecret, "requests_per_minute: 6"));
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(authenticator->CheckToken("Bearer secret", kNow).ok());
  const absl::Status refused = authenticator->CheckToken("Bearer secret", kNow + absl::Seconds(4)).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.message(), "token \"alice\" has used up its 6 requests a minute; retry later");
  EXPECT_EQ(RetryDelay(refused), absl::Seconds(6));
  EXPECT_TRUE(authenticator->CheckToken("Bearer secret", kNow + absl::Seconds(10.1)).ok());
  EXPECT_FALSE(authenticator->CheckToken("Bearer secret", kNow + absl::Seconds(10.1)).ok());
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(authenticator->CheckToken("Bearer secret", kNow + absl::Minutes(5)).ok());
  EXPECT_FALSE(authenticator->CheckToken("Bearer secret", kNow + absl::Minutes(5)).ok());
}

TEST_F(AuthenticatorTest, APriorityAboveTheTokensIsDenied) {
  const auto authenticator = Create(Token("alice", kSecret, "max_priority: PRIORITY_NORMAL") + Token("bob", kOther));
  const absl::StatusOr<Caller> alice = authenticator->CheckToken("Bearer secret", kNow);
  ASSERT_TRUE(alice.ok());
  EXPECT_TRUE(alice->MayAskFor(Priority::kNormal).ok());
  EXPECT_EQ(
      alice->MayAskFor(Priority::kHigh),
      absl::PermissionDeniedError("priority: token \"alice\" may ask for PRIORITY_NORMAL at most, got PRIORITY_HIGH"));
  const absl::StatusOr<Caller> bob = authenticator->CheckToken("Bearer other", kNow);
  ASSERT_TRUE(bob.ok()) << bob.status();
  EXPECT_TRUE(bob->MayAskFor(Priority::kHigh).ok());
}

TEST_F(AuthenticatorTest, ANewFileIsUsedAndKeepsWhatIsSpent) {
  const auto authenticator = Create(Token("alice", kSecret, "requests_per_minute: 1 max_concurrent_requests: 1"));
  absl::StatusOr<Caller> open = authenticator->CheckToken("Bearer secret", kNow);
  EXPECT_TRUE(open.ok());
  authenticator->ReloadIfChanged();
  EXPECT_TRUE(log_.empty()) << "the file is the same";
  folder_.Write("tokens",
                Token("alice", kSecret, "requests_per_minute: 1 max_concurrent_requests: 1") + Token("bob", kOther));
  authenticator->ReloadIfChanged();
  EXPECT_THAT(log_,
              testing::ElementsAre(testing::EndsWith(absl::StrCat("event=tokens_reloaded file=", path_, " tokens=2"))));
  EXPECT_TRUE(authenticator->CheckToken("Bearer other", kNow).ok());
  EXPECT_EQ(authenticator->CheckToken("Bearer secret", kNow).status().message(),
            "token \"alice\" has 1 requests open, which is its limit; retry when one has ended");
  open->place.reset();  // of a caller let in before the reload
  EXPECT_EQ(authenticator->CheckToken("Bearer secret", kNow).status().message(),
            "token \"alice\" has used up its 1 requests a minute; retry later");
  folder_.Write("tokens", Token("bob", kOther));
  authenticator->ReloadIfChanged();
  EXPECT_EQ(authenticator->CheckToken("Bearer secret", kNow).status().code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(AuthenticatorTest, ABrokenNewFileLeavesTheOldTokens) {
  const auto authenticator = Create(Token("alice", kSecret));
  folder_.Write("tokens", "tokens {");
  for (int i = 0; i < 3; ++i) authenticator->ReloadIfChanged();
  EXPECT_THAT(log_, testing::ElementsAre(testing::HasSubstr(absl::StrCat(
                        "level=error event=tokens_not_reloaded message=\"--auth_tokens: ", path_, ":1:9: "))))
      << "said once";
  EXPECT_TRUE(authenticator->CheckToken("Bearer secret", kNow).ok());
}

TEST_F(AuthenticatorTest, WrongFilesAreErrors) {
  EXPECT_EQ(Error(""), " holds no tokens; nobody could call, and without the file everybody can");
  EXPECT_EQ(Error("tokens {\n  nam: 'x'\n}"), ":2:6: Message type \"nabla.v1.AuthToken\" has no field named \"nam\".");
  EXPECT_EQ(Error(Token("a b", kSecret)),
            ": tokens[0].name: must be 1 to 64 letters, digits, \"-\", \"_\" and \".\", got \"a b\"");
  EXPECT_EQ(Error(Token("alice", "secret")), ": tokens[0].sha256: must be 64 hexadecimal digits, got 6 characters");
  EXPECT_EQ(Error(Token("alice", kSecret) + Token("alice", kOther)), ": tokens[1].name: \"alice\" is there twice");
  EXPECT_EQ(Error(Token("alice", kSecret) + Token("bob", kSecret)), ": tokens[1].sha256: another token has the same");
  EXPECT_EQ(Error(Token("alice", kSecret, "max_concurrent_requests: 0")),
            ": tokens[0].max_concurrent_requests: must be at least 1, got 0");
  EXPECT_EQ(Error(Token("alice", kSecret, "requests_per_minute: 0")),
            ": tokens[0].requests_per_minute: must be at least 1, got 0");
  EXPECT_EQ(Error(Token("alice", kSecret, "max_priority: 9")),
            ": tokens[0].max_priority: must be PRIORITY_LOW, PRIORITY_NORMAL or PRIORITY_HIGH, got 9");
}

}  // namespace
}  // namespace nabla
