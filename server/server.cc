#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

// What stopped requests get to send their status to clients that read.
constexpr absl::Duration kFlushGrace = absl::Seconds(1);

std::string HostPort(const std::string& host, int port) {
  const bool bare_ipv6 = host.find(':') != std::string::npos && host.front() != '[';
  return bare_ipv6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::Status CannotListen(const std::string& address, const char* flag) {
  return absl::UnavailableError(absl::StrCat(
      "cannot listen on ", address,
      ": the port is in use or the host is not an address of this machine; choose another with ", flag, " or --host"));
}

}  // namespace

Server::Server(const ServerOptions& options, std::unique_ptr<EnginePool> pool)
    : options_(options),
      pool_(std::move(pool)),
      metrics_(NABLA_VERSION),
      gauges_(std::make_shared<PoolGauges>(pool_.get())),
      service_(pool_.get(),
               {.version = NABLA_VERSION,
                .max_new_tokens_limit = options.max_new_tokens_limit,
                .max_rollouts_limit = options.max_rollouts_limit},
               &metrics_, options.log) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Create(const ServerOptions& options, std::unique_ptr<EnginePool> pool) {
  std::unique_ptr<Server> server(new Server(options, std::move(pool)));
  NABLA_RETURN_IF_ERROR(server->ExposeMetrics());
  NABLA_RETURN_IF_ERROR(server->Listen());
  return server;
}

Server::~Server() { Stop(absl::ZeroDuration()); }

absl::Status Server::Listen() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  const std::string address = HostPort(options_.host, options_.port);
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // else two servers would share a port without a word
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(&service_);
  grpc_server_ = builder.BuildAndStart();
  if (grpc_server_ == nullptr || port_ == 0) return CannotListen(address, "--port");
  grpc_server_->GetHealthCheckService()->SetServingStatus(v1::Reasoner::service_full_name(), true);
  return absl::OkStatus();
}

absl::Status Server::ExposeMetrics() {
  if (options_.metrics_port < 0) return absl::OkStatus();
  const std::string address = HostPort(options_.host, options_.metrics_port);
  try {
    exposer_ = std::make_unique<prometheus::Exposer>(address);
  } catch (const std::exception&) {
    return CannotListen(address, "--metrics_port");
  }
  exposer_->RegisterCollectable(metrics_.registry());
  exposer_->RegisterCollectable(gauges_);
  metrics_port_ = exposer_->GetListeningPorts().front();
  return absl::OkStatus();
}

void Server::Drain() { Stop(options_.drain_timeout); }

void Server::Stop(absl::Duration timeout) {
  const std::lock_guard<std::mutex> lock(stop_mu_);
  if (stopped_) return;
  stopped_ = true;
  const absl::Time deadline = absl::Now() + timeout;
  if (grpc_server_ != nullptr) grpc_server_->GetHealthCheckService()->SetServingStatus(false);
  service_.StartDraining();
  pool_->Shutdown(deadline);
  // Every request has its result by now; what is open waits for its reader.
  const absl::Time flush_deadline = std::max(deadline, absl::Now() + std::min(timeout, kFlushGrace));
  service_.AwaitIdle(flush_deadline);
  if (grpc_server_ != nullptr) grpc_server_->Shutdown(std::chrono::system_clock::now());
  service_.AwaitIdle(absl::InfiniteFuture());
  exposer_.reset();
}

}  // namespace nabla
