#include "server/reward_channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "nabla/v1/reward.pb.h"
#include "server/file.h"
#include "server/reward_address.h"

namespace nabla {
namespace {

constexpr char kService[] = "nabla.v1.RewardModel";

// How long one attempt to connect may take; what gRPC calls the least back-off.
constexpr absl::Duration kConnectionAttempt = absl::Seconds(5);
// How often gRPC looks whether the certificates have been replaced.
constexpr unsigned kLookAtCertificatesSeconds = 1;

// A replica that is full is as good as one that is gone: another may have room, or itself a little later. Retries spend
// from a budget of 10 that every success refills by a tenth: with the service gone, calls soon fail at once.
std::string ServiceConfig(const RewardChannelOptions& options) {
  std::string retry_policy;
  if (options.max_attempts > 1) {
    retry_policy = absl::StrFormat(
        R"(,"retryPolicy":{"maxAttempts":%d,"initialBackoff":"%.3fs","maxBackoff":"%.3fs","backoffMultiplier":2,)"
        R"("retryableStatusCodes":["UNAVAILABLE","RESOURCE_EXHAUSTED"]})",
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
  NABLA_RETURN_IF_ERROR(ReadFile("--reward_tls_ca", options.tls_ca_file).status());
  grpc::experimental::TlsChannelCredentialsOptions tls;
  tls.watch_root_certs();
  if (!options.tls_certificate_file.empty()) {
    NABLA_RETURN_IF_ERROR(ReadFile("remote_reward.tls_certificate_file", options.tls_certificate_file).status());
    NABLA_RETURN_IF_ERROR(ReadFile("remote_reward.tls_key_file", options.tls_key_file).status());
    tls.watch_identity_key_cert_pairs();
  }
  tls.set_certificate_provider(std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      options.tls_key_file, options.tls_certificate_file, options.tls_ca_file, kLookAtCertificatesSeconds));
  return grpc::experimental::TlsCredentials(tls);
}

int Milliseconds(absl::Duration duration) { return static_cast<int>(absl::ToInt64Milliseconds(duration)); }

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> CreateRewardChannel(const RewardChannelOptions& options) {
  NABLA_ASSIGN_OR_RETURN(const RewardAddress address, ParseRewardAddress(options.address));
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
  return grpc::CreateCustomChannel(address.target, credentials, arguments);
}

}  // namespace nabla
