#include "client/channel.h"

#include <arpa/inet.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

// A server that comes back is found again within this, instead of gRPC's two minutes.
constexpr int kMaxReconnectMs = 1000;

absl::StatusOr<std::string> ReadFile(absl::string_view flag, const std::string& path) {
  const std::unique_ptr<std::FILE, decltype(&std::fclose)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  std::string text;
  if (file != nullptr) {
    char buffer[4096];
    for (size_t count = 0; (count = std::fread(buffer, 1, sizeof(buffer), file.get())) > 0;) text.append(buffer, count);
    if (std::ferror(file.get()) == 0) return text;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": cannot read ", path, ": ", std::generic_category().message(errno)));
}

// gRPC says nothing of a file without what it looks for: such a channel never connects.
absl::StatusOr<std::string> ReadPem(absl::string_view flag, const std::string& path, absl::string_view what) {
  NABLA_ASSIGN_OR_RETURN(std::string text, ReadFile(flag, path));
  if (!absl::StrContains(text, absl::StrCat(absl::AsciiStrToUpper(what), "-----"))) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": ", path, " holds no PEM ", what));
  }
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(const ChannelOptions& options) {
  if (!options.uses_tls()) return grpc::InsecureChannelCredentials();
  if (options.tls_certificate_file.empty() != options.tls_key_file.empty()) {
    return absl::InvalidArgumentError(options.tls_key_file.empty()
                                          ? "--tls_certificate: needs its private key; give it with --tls_key"
                                          : "--tls_key: has no effect without --tls_certificate");
  }
  grpc::SslCredentialsOptions ssl;
  if (!options.tls_ca_file.empty()) {
    NABLA_ASSIGN_OR_RETURN(ssl.pem_root_certs, ReadPem("--tls_ca", options.tls_ca_file, "certificate"));
  }
  if (!options.tls_certificate_file.empty()) {
    NABLA_ASSIGN_OR_RETURN(ssl.pem_cert_chain,
                           ReadPem("--tls_certificate", options.tls_certificate_file, "certificate"));
    NABLA_ASSIGN_OR_RETURN(ssl.pem_private_key, ReadPem("--tls_key", options.tls_key_file, "private key"));
  }
  return grpc::SslCredentials(ssl);
}

// Whether what is sent to "host:port" does not leave this machine.
bool IsOnThisMachine(absl::string_view address) {
  if (absl::StartsWith(address, "unix:")) return true;
  absl::string_view host = address.substr(0, address.rfind(':'));
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  in_addr ip = {};
  if (inet_pton(AF_INET, std::string(host).c_str(), &ip) == 1) return ntohl(ip.s_addr) >> 24 == 127;
  return host == "localhost" || host == "::1";
}

absl::StatusOr<std::string> Authorization(const ChannelOptions& options) {
  if (options.token_file.empty()) return std::string();
  if (!options.uses_tls() && !IsOnThisMachine(options.address)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--token_file: a token is not sent in the clear to another machine, ", options.address,
                     "; turn on TLS with --tls or --tls_ca"));
  }
  NABLA_ASSIGN_OR_RETURN(const std::string text, ReadFile("--token_file", options.token_file));
  const absl::string_view token = absl::StripAsciiWhitespace(text);
  if (token.empty() || !std::all_of(token.begin(), token.end(), absl::ascii_isgraph)) {
    return absl::InvalidArgumentError(absl::StrCat("--token_file: ", options.token_file,
                                                   " must hold one token of visible ASCII characters without spaces"));
  }
  return absl::StrCat("Bearer ", token);
}

}  // namespace

absl::StatusOr<Connection> Connect(const ChannelOptions& options) {
  if (options.address.empty()) return absl::InvalidArgumentError("the server's address is empty; expected host:port");
  NABLA_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials, Credentials(options));
  NABLA_ASSIGN_OR_RETURN(std::string authorization, Authorization(options));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // the longest draft is the server's to limit
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
  if (!options.tls_server_name.empty()) arguments.SetSslTargetNameOverride(options.tls_server_name);
  // A proxy of the environment would see a token that is meant for this machine.
  if (!authorization.empty() && !options.uses_tls()) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return Connection{.channel = grpc::CreateCustomChannel(options.address, credentials, arguments),
                    .authorization = std::move(authorization)};
}

}  // namespace nabla
