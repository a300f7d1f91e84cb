#include "server/authenticator.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "nabla/v1/config.pb.h"
#include "server/call_context.h"
#include "server/status.h"
#include "server/text_proto.h"

namespace nabla {
namespace {

constexpr size_t kMaxNameLength = 64;
constexpr absl::Duration kPlaceRetryDelay = absl::Seconds(1);

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

Digest Sha256(absl::string_view text) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

const char* PriorityName(Priority priority) {
  if (priority == Priority::kHigh) return "PRIORITY_HIGH";
  return priority == Priority::kNormal ? "PRIORITY_NORMAL" : "PRIORITY_LOW";
}

absl::StatusOr<Priority> MaxPriority(v1::Priority priority) {
  switch (priority) {
    case v1::PRIORITY_UNSPECIFIED:
    case v1::PRIORITY_HIGH:
      return Priority::kHigh;
    case v1::PRIORITY_NORMAL:
      return Priority::kNormal;
    case v1::PRIORITY_LOW:
      return Priority::kLow;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("max_priority: must be PRIORITY_LOW, PRIORITY_NORMAL or PRIORITY_HIGH, got ", priority));
  }
}

// "127.0.0.1" of "ipv4:127.0.0.1:43210", "::1" of "ipv6:%5B::1%5D:43210"; anything else as it is.
std::string HostOf(const std::string& peer) {
  absl::string_view host = peer;
  const bool is_address = absl::ConsumePrefix(&host, "ipv4:") || absl::ConsumePrefix(&host, "ipv6:");
  if (!is_address) return peer;
  host = host.substr(0, host.rfind(':'));
  if (!absl::ConsumePrefix(&host, "[")) absl::ConsumePrefix(&host, "%5B");
  if (!absl::ConsumeSuffix(&host, "]")) absl::ConsumeSuffix(&host, "%5D");
  return std::string(host);
}

}  // namespace

// One token and what is open under it.
class Authenticator::Token {
 public:
  static absl::StatusOr<std::shared_ptr<Token>> Create(const v1::AuthToken& message) {
    auto token = std::make_shared<Token>();
    if (!IsSaneName(message.name())) {
      return absl::InvalidArgumentError(
          absl::StrCat("name: must be 1 to 64 letters, digits, \"-\", \"_\" and \".\", got \"", message.name(), "\""));
    }
    token->name = message.name();
    const bool is_hex = std::all_of(message.sha256().begin(), message.sha256().end(),
                                    [](unsigned char c) { return absl::ascii_isxdigit(c); });
    if (message.sha256().size() != 2 * sizeof(Digest) || !is_hex) {
      return absl::InvalidArgumentError(
          absl::StrCat("sha256: must be 64 hexadecimal digits, got ", message.sha256().size(), " characters"));
    }
    const std::string digest = absl::HexStringToBytes(message.sha256());
    std::copy(digest.begin(), digest.end(), token->digest.begin());
    if (message.has_max_concurrent_requests()) {
      if (message.max_concurrent_requests() == 0) {
        return absl::InvalidArgumentError("max_concurrent_requests: must be at least 1, got 0");
      }
      token->max_concurrent = message.max_concurrent_requests();
    }
    if (message.has_requests_per_minute()) {
      if (message.requests_per_minute() == 0) {
        return absl::InvalidArgumentError("requests_per_minute: must be at least 1, got 0");
      }
      token->per_minute = message.requests_per_minute();
    }
    NABLA_ASSIGN_OR_RETURN(token->max_priority, MaxPriority(message.max_priority()));
    return token;
  }

  // Goes on counting what `previous` has counted. Before the token is used.
  void TakeOver(const Token& previous) { account_ = previous.account_; }

  absl::StatusOr<Caller> Enter(absl::Time now) {
    const std::lock_guard<std::mutex> lock(account_->mu);
    if (max_concurrent.has_value() && account_->open >= *max_concurrent) {
      return WithRetryDelay(
          absl::ResourceExhaustedError(absl::StrCat("token \"", name, "\" has ", *max_concurrent,
                                                    " requests open, which is its limit; retry when one has ended")),
          kPlaceRetryDelay);
    }
    if (per_minute.has_value()) {
      const double per_second = *per_minute / 60.0;
      const double refilled = std::max(0.0, absl::ToDoubleSeconds(now - account_->as_of)) * per_second;
      double& spent = account_->spent;
      spent = std::max(0.0, std::min<double>(spent, *per_minute) - refilled);
      account_->as_of = now;
      if (spent + 1 > *per_minute) {
        return WithRetryDelay(
            absl::ResourceExhaustedError(
                absl::StrCat("token \"", name, "\" has used up its ", *per_minute, " requests a minute; retry later")),
            absl::Seconds((spent + 1 - *per_minute) / per_second));
      }
      spent += 1;
    }
    ++account_->open;
    const auto leave = [account = account_](const void* /*nothing*/) {
      const std::lock_guard<std::mutex> lock(account->mu);
      --account->open;
    };
    return Caller{.client = name, .max_priority = max_priority, .place = std::shared_ptr<const void>(nullptr, leave)};
  }

  std::string name;
  Digest digest = {};
  Priority max_priority = Priority::kHigh;
  std::optional<uint32_t> max_concurrent;
  std::optional<uint32_t> per_minute;

 private:
  // What is spent of the limits. Outlives the token: through reloads of the file, and with the callers let in.
  struct Account {
    std::mutex mu;
    uint32_t open ABSL_GUARDED_BY(mu) = 0;
    double spent ABSL_GUARDED_BY(mu) = 0;  // of per_minute, refilled as time goes by
    absl::Time as_of ABSL_GUARDED_BY(mu) = absl::InfinitePast();
  };

  std::shared_ptr<Account> account_ = std::make_shared<Account>();
};

bool IsSaneName(absl::string_view name) {
  if (name.empty() || name.size() > kMaxNameLength) return false;
  return std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.'; });
}

absl::Status Caller::MayAskFor(Priority priority) const {
  if (priority <= max_priority) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("priority: token \"", client, "\" may ask for ",
                                                  PriorityName(max_priority), " at most, got ",
                                                  PriorityName(priority)));
}

Authenticator::Authenticator(const std::string& tokens_file, LogSink log) : path_(tokens_file), log_(std::move(log)) {}
Authenticator::~Authenticator() = default;

absl::StatusOr<std::unique_ptr<Authenticator>> Authenticator::Create(const std::string& tokens_file, LogSink log) {
  std::unique_ptr<Authenticator> authenticator(new Authenticator(tokens_file, std::move(log)));
  if (tokens_file.empty()) return authenticator;
  const std::lock_guard<std::mutex> reload_lock(authenticator->reload_mu_);
  authenticator->stamp_ = FileStamp::Of(tokens_file);
  NABLA_ASSIGN_OR_RETURN(Tokens tokens, Load(tokens_file));
  const std::lock_guard<std::mutex> lock(authenticator->mu_);
  authenticator->tokens_ = std::move(tokens);
  return authenticator;
}

absl::StatusOr<Authenticator::Tokens> Authenticator::Load(const std::string& path) {
  NABLA_ASSIGN_OR_RETURN(const std::string text, ReadFile("--auth_tokens", path));
  v1::AuthTokens file;
  const absl::Status parsed = ParseTextProto(path, text, &file);
  if (!parsed.ok()) return absl::InvalidArgumentError(absl::StrCat("--auth_tokens: ", parsed.message()));
  if (file.tokens().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--auth_tokens: ", path, " holds no tokens; nobody could call, and without the file everybody can"));
  }
  Tokens tokens;
  std::set<std::string> names;
  std::set<Digest> digests;
  for (int i = 0; i < file.tokens_size(); ++i) {
    const auto wrong = [&](absl::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat("--auth_tokens: ", path, ": tokens[", i, "].", what));
    };
    absl::StatusOr<std::shared_ptr<Token>> token = Token::Create(file.tokens(i));
    if (!token.ok()) return wrong(token.status().message());
    if (!names.insert((*token)->name).second)
      return wrong(absl::StrCat("name: \"", (*token)->name, "\" is there twice"));
    if (!digests.insert((*token)->digest).second) return wrong("sha256: another token has the same");
    tokens.push_back(*std::move(token));
  }
  return tokens;
}

void Authenticator::ReloadIfChanged() {
  if (path_.empty()) return;
  const std::lock_guard<std::mutex> reload_lock(reload_mu_);
  const FileStamp stamp = FileStamp::Of(path_);
  if (stamp == stamp_) return;
  stamp_ = stamp;
  absl::StatusOr<Tokens> tokens = Load(path_);  // without mu_: a slow disk must not hold up calls
  if (!tokens.ok()) {
    log_(LogEvent(LogLevel::kError, "tokens_not_reloaded").Add("message", tokens.status().message()));
    return;
  }
  const auto count = static_cast<int64_t>(tokens->size());
  {
    const std::lock_guard<std::mutex> lock(mu_);
    for (const auto& token : *tokens) {
      for (const auto& old : tokens_) {
        if (old->name == token->name) token->TakeOver(*old);
      }
    }
    tokens_.swap(*tokens);
  }
  log_(LogEvent(LogLevel::kInfo, "tokens_reloaded").Add("file", path_).Add("tokens", count));
}

std::shared_ptr<Authenticator::Token> Authenticator::Find(absl::string_view token) const {
  const Digest digest = Sha256(token);
  std::shared_ptr<Token> found;
  const std::lock_guard<std::mutex> lock(mu_);
  for (const auto& candidate : tokens_) {  // all of them, so that the time tells nothing
    if (CRYPTO_memcmp(candidate->digest.data(), digest.data(), digest.size()) == 0) found = candidate;
  }
  return found;
}

absl::StatusOr<std::shared_ptr<Authenticator::Token>> Authenticator::Know(absl::string_view authorization) const {
  constexpr absl::string_view kScheme = "Bearer ";
  if (authorization.empty()) {
    return absl::UnauthenticatedError("this server needs a token; send it as metadata \"authorization: Bearer TOKEN\"");
  }
  if (!absl::StartsWithIgnoreCase(authorization, kScheme)) {
    return absl::UnauthenticatedError("authorization: must be \"Bearer TOKEN\"");
  }
  std::shared_ptr<Token> token = Find(absl::StripAsciiWhitespace(authorization.substr(kScheme.size())));
  if (token == nullptr) return absl::UnauthenticatedError("authorization: this token is not known here");
  return token;
}

absl::StatusOr<Caller> Authenticator::CheckToken(absl::string_view authorization, absl::Time now) {
  NABLA_ASSIGN_OR_RETURN(const std::shared_ptr<Token> token, Know(authorization));
  return token->Enter(now);
}

absl::Status Authenticator::CheckKnown(const grpc::ServerContextBase& context) const {
  return required() ? Know(Header(context, "authorization")).status() : absl::OkStatus();
}

absl::StatusOr<Caller> Authenticator::Check(const grpc::ServerContextBase& context) {
  if (required()) return CheckToken(Header(context, "authorization"), absl::Now());
  const absl::string_view id = Header(context, "nabla-client-id");
  return Caller{.client = IsSaneName(id) ? std::string(id) : HostOf(context.peer())};
}

}  // namespace nabla
