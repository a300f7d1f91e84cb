#include "server/listener.h"

#include <arpa/inet.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <mutex>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

// gRPC keeps both as settings of the process that the next server built takes over.
void EnableHealthAndReflection() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(duration), std::numeric_limits<int>::max()));
}

void AddLimits(const ListenerOptions& options, grpc::ServerBuilder* builder) {
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // else two servers would share a port without a word
  builder->SetMaxReceiveMessageSize(options.max_receive_message_bytes);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_concurrent_streams);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(options.keepalive_time));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(options.keepalive_timeout));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // any number: a request may wait for long
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                              Milliseconds(options.min_client_ping_interval));
  if (options.max_connection_age != absl::InfiniteDuration()) {
    builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, Milliseconds(options.max_connection_age));
  }
}

}  // namespace

std::string HostPort(const std::string& host, int port) {
  const bool bare_ipv6 = host.find(':') != std::string::npos && host.front() != '[';
  return bare_ipv6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

bool IsLoopback(absl::string_view host) {
  if (host == "localhost") return true;
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  const std::string address(host);
  in_addr ipv4 = {};
  in6_addr ipv6 = {};
  if (inet_pton(AF_INET, address.c_str(), &ipv4) == 1) return ntohl(ipv4.s_addr) >> 24 == 127;
  return inet_pton(AF_INET6, address.c_str(), &ipv6) == 1 && IN6_IS_ADDR_LOOPBACK(&ipv6);
}

void WarnIfOpenToEverybody(const ListenerOptions& options, bool needs_token) {
  if (IsLoopback(options.host)) return;
  const bool encrypted = !options.tls.certificate_file.empty();
  const bool closed = needs_token || !options.tls.client_ca_file.empty();
  if (encrypted && closed) return;
  options.log(LogEvent(LogLevel::kWarning, "open_listener")
                  .Add("host", options.host)
                  .Add("message", closed ? "tokens and answers go in the clear; set --tls_certificate and --tls_key"
                                  : encrypted
                                      ? "whoever reaches this port may use it; set --auth_tokens or --tls_client_ca"
                                      : "whoever reaches this port may use it, in the clear; set --tls_certificate, "
                                        "--tls_key and --auth_tokens"));
}

absl::Status CannotListen(const std::string& address, absl::string_view flag) {
  return absl::UnavailableError(absl::StrCat(
      "cannot listen on ", address,
      ": the port is in use or the host is not an address of this machine; choose another with ", flag, " or --host"));
}

absl::StatusOr<std::unique_ptr<Listener>> Listener::Create(const ListenerOptions& options,
                                                           const std::vector<grpc::Service*>& services) {
  EnableHealthAndReflection();
  std::unique_ptr<Listener> listener(new Listener());
  if (options.tls.enabled()) {
    NABLA_ASSIGN_OR_RETURN(listener->credentials_, TlsServerCredentials(options.tls, options.log));
  } else {
    listener->credentials_ = grpc::InsecureServerCredentials();
  }
  const std::string address = HostPort(options.host, options.port);
  grpc::ServerBuilder builder;
  AddLimits(options, &builder);
  builder.AddListeningPort(address, listener->credentials_, &listener->port_);
  for (grpc::Service* service : services) builder.RegisterService(service);
  listener->server_ = builder.BuildAndStart();
  if (listener->server_ == nullptr || listener->port_ == 0) return CannotListen(address, "--port");
  return listener;
}

Listener::~Listener() { Shutdown(absl::InfinitePast()); }

void Listener::SetServing(const std::string& service_name, bool serving) {
  server_->GetHealthCheckService()->SetServingStatus(service_name, serving);
}

void Listener::Shutdown(absl::Time deadline) {
  if (server_ == nullptr) return;
  server_->Shutdown(std::max(absl::ToChronoTime(deadline), std::chrono::system_clock::now()));
}

void Listener::ShutdownBehindRefusals(absl::Duration timeout) {
  absl::SleepFor(std::min(timeout, kLastRefusals));
  Shutdown(absl::Now() + std::min(timeout, kFlushGrace));
}

}  // namespace nabla
