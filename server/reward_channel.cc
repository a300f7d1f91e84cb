#include "server/reward_channel.h"

#include <arpa/inet.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "nabla/v1/reward.pb.h"
#include "server/file.h"

namespace nabla {
namespace {

constexpr char kService[] = "nabla.v1.RewardModel";

// How long one attempt to connect may take; what gRPC calls the least back-off.
constexpr absl::Duration kConnectionAttempt = absl::Seconds(5);

enum class HostKind { kIpv4, kIpv6, kName };

HostKind KindOf(const std::string& host) {
  in6_addr ignored;
  if (inet_pton(AF_INET, host.c_str(), &ignored) == 1) return HostKind::kIpv4;
  return inet_pton(AF_INET6, host.c_str(), &ignored) == 1 ? HostKind::kIpv6 : HostKind::kName;
}

absl::Status Wrong(absl::string_view address, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("--reward_address: ", what, ", got \"", address, "\""));
}

// Retries spend from a budget of 10 that every success refills by a tenth: with the service gone, calls soon fail at
// once.
std::string ServiceConfig(const RewardChannelOptions& options) {
  std::string retry_policy;
  if (options.max_attempts > 1) {
    retry_policy = absl::StrFormat(
        R"(,"retryPolicy":{"maxAttempts":%d,"initialBackoff":"%.3fs","maxBackoff":"%.3fs","backoffMultiplier":2,)"
        R"("retryableStatusCodes":["UNAVAILABLE"]})",
        options.max_attempts, absl::ToDoubleSeconds(options.first_backoff), absl::ToDoubleSeconds(options.max_backoff));
  }
  return absl::StrFormat(
      R"({"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":"%s"},)"
      R"("retryThrottling":{"maxTokens":10,"tokenRatio":0.1},"methodConfig":[{"name":[{"service":"%s"}]%s}]})",
      kService, kService, retry_policy);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(const RewardChannelOptions& options) {
  if (options.tls_ca_file.empty()) {
    for (const auto& [flag, value] : {std::pair("remote_reward.tls_certificate_file", &options.tls_certificate_file),
                                      std::pair("remote_reward.tls_key_file", &options.tls_key_file),
                                      std::pair("remote_reward.tls_server_name", &options.tls_server_name)}) {
      if (!value->empty()) {
        return absl::InvalidArgumentError(absl::StrCat(flag, ": has no effect without --reward_tls_ca"));
      }
    }
    return grpc::InsecureChannelCredentials();
  }
  if (options.tls_certificate_file.empty() != options.tls_key_file.empty()) {
    return absl::InvalidArgumentError(
        options.tls_key_file.empty()
            ? "remote_reward.tls_certificate_file: needs its private key; give it with "
              "remote_reward.tls_key_file"
            : "remote_reward.tls_key_file: has no effect without remote_reward.tls_certificate_file");
  }
  grpc::SslCredentialsOptions ssl;
  NABLA_ASSIGN_OR_RETURN(ssl.pem_root_certs, ReadFile("--reward_tls_ca", options.tls_ca_file));
  if (!options.tls_certificate_file.empty()) {
    NABLA_ASSIGN_OR_RETURN(ssl.pem_cert_chain,
                           ReadFile("remote_reward.tls_certificate_file", options.tls_certificate_file));
    NABLA_ASSIGN_OR_RETURN(ssl.pem_private_key, ReadFile("remote_reward.tls_key_file", options.tls_key_file));
  }
  return grpc::SslCredentials(ssl);
}

int Milliseconds(absl::Duration duration) { return static_cast<int>(absl::ToInt64Milliseconds(duration)); }

}  // namespace

absl::StatusOr<std::string> RewardTarget(const std::string& address) {
  const std::vector<std::string> replicas = absl::StrSplit(address, ',');
  std::vector<HostKind> kinds;
  for (const std::string& replica : replicas) {
    const size_t colon = replica.rfind(':');
    int port = 0;
    if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(replica.substr(colon + 1), &port) || port < 1 ||
        port > 65535) {
      return Wrong(address, "must be host:port, or a list of them with commas between");
    }
    absl::string_view host = absl::string_view(replica).substr(0, colon);
    if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
    kinds.push_back(KindOf(std::string(host)));
    if (kinds.back() == HostKind::kName && replicas.size() > 1) {
      return Wrong(address, "a list takes IP addresses; for names, give the one name that stands for all replicas");
    }
    if (kinds.back() != kinds.front()) return Wrong(address, "a list takes IPv4 or IPv6 addresses, not both");
  }
  switch (kinds.front()) {
    case HostKind::kIpv4:
      return absl::StrCat("ipv4:", address);
    case HostKind::kIpv6:
      return absl::StrCat("ipv6:", address);
    case HostKind::kName:
      break;
  }
  return absl::StrCat("dns:///", address);
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> CreateRewardChannel(const RewardChannelOptions& options) {
  NABLA_ASSIGN_OR_RETURN(const std::string target, RewardTarget(options.address));
  if (options.max_attempts < 1 || options.max_attempts > 5) {
    return absl::InvalidArgumentError(
        absl::StrCat("remote_reward.max_attempts: must be 1 … 5, got ", options.max_attempts));
  }
  NABLA_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials, Credentials(options));
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(ServiceConfig(options));
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);  // ours, not what DNS may say
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(options.keepalive_time));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(options.keepalive_timeout));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // any number: a call may compute for long
  // A replica that is gone may be back under another address.
  arguments.SetInt(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, Milliseconds(options.max_reconnect_backoff));
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, Milliseconds(options.first_backoff));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, Milliseconds(kConnectionAttempt));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, Milliseconds(options.max_reconnect_backoff));
  // A channel of its own: one that gRPC shares with others of this target would share their connections' fate.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(options.max_message_bytes);
  if (!options.tls_server_name.empty()) arguments.SetSslTargetNameOverride(options.tls_server_name);
  return grpc::CreateCustomChannel(target, credentials, arguments);
}

}  // namespace nabla
