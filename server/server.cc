#include "server/server.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "server/metrics_port.h"

namespace nabla {
namespace {

constexpr char kLost[] = "every engine has failed";

// Why no requests should come; empty: they may.
std::string NotReady(const PoolLoad& load) {
  bool any_healthy = false;
  for (const EngineLoad& engine : load.engines) {
    if (engine.healthy && engine.stuck) {
      return absl::StrCat("the engine on ", engine.device, " has made no progress for ",
                          absl::FormatDuration(kStuckAfter));
    }
    any_healthy = any_healthy || engine.healthy;
  }
  return any_healthy ? "" : kLost;
}

}  // namespace

Server::Server(const ServerOptions& options) : options_(options), metrics_(NABLA_VERSION) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Create(const ServerOptions& options) {
  std::unique_ptr<Server> server(new Server(options));
  NABLA_RETURN_IF_ERROR(server->Open());
  return server;
}

Server::~Server() { Stop(absl::ZeroDuration()); }

absl::Status Server::Open() {
  const LogSink& log = options_.listener.log;
  NABLA_ASSIGN_OR_RETURN(authenticator_, Authenticator::Create(options_.auth_tokens_file, log));
  service_ =
      std::make_unique<ReasonerService>(ReasonerServiceOptions{.version = NABLA_VERSION,
                                                               .max_new_tokens_limit = options_.max_new_tokens_limit,
                                                               .max_rollouts_limit = options_.max_rollouts_limit},
                                        authenticator_.get(), &metrics_, log);
  NABLA_RETURN_IF_ERROR(ExposeMetrics());
  NABLA_ASSIGN_OR_RETURN(listener_, Listener::Create(options_.listener, {service_.get()}));
  listener_->SetServing(v1::Reasoner::service_full_name(), false);
  WarnIfOpenToEverybody(options_.listener, authenticator_->required());
  watchdog_ = std::make_unique<PeriodicTask>(options_.watchdog_period, [this] {
    authenticator_->ReloadIfChanged();
    LookAtEngines();
  });
  return absl::OkStatus();
}

absl::Status Server::ExposeMetrics() {
  if (options_.metrics_port < 0) return absl::OkStatus();
  const std::string& host = options_.metrics_host.empty() ? options_.listener.host : options_.metrics_host;
  NABLA_ASSIGN_OR_RETURN(exposer_, OpenMetricsPort(host, options_.metrics_port));
  exposer_->RegisterCollectable(metrics_.registry());
  metrics_port_ = exposer_->GetListeningPorts().front();
  return absl::OkStatus();
}

void Server::Serve(std::unique_ptr<EnginePool> pool) {
  EnginePool* const serving = pool.get();
  {
    const std::lock_guard<std::mutex> lock(mu_);
    if (draining_) return;  // with the pool
    pool_ = std::move(pool);
    gauges_ = std::make_shared<PoolGauges>(serving);
    if (exposer_ != nullptr) exposer_->RegisterCollectable(gauges_);
    service_->Serve(serving);
  }
  LookAtEngines();
}

void Server::LookAtEngines() {
  const std::lock_guard<std::mutex> lock(mu_);
  if (pool_ == nullptr || draining_) return;
  std::string not_ready = NotReady(pool_->load());
  if (not_ready == not_ready_) return;
  not_ready_ = std::move(not_ready);
  listener_->SetServing(v1::Reasoner::service_full_name(), not_ready_.empty());
  metrics_.SetReady(not_ready_.empty());
  const LogSink& log = options_.listener.log;
  if (not_ready_.empty()) {
    log(LogEvent(LogLevel::kInfo, "ready"));
  } else {
    log(LogEvent(LogLevel::kError, "not_ready").Add("message", not_ready_));
    if (not_ready_ == kLost && options_.on_lost) options_.on_lost();
  }
}

void Server::Drain() { Stop(options_.drain_timeout); }

void Server::Stop(absl::Duration timeout) {
  const std::lock_guard<std::mutex> stop_lock(stop_mu_);
  if (stopped_) return;
  stopped_ = true;
  const absl::Time deadline = absl::Now() + timeout;
  EnginePool* pool = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    draining_ = true;
    pool = pool_.get();
    if (listener_ != nullptr) listener_->SetServing(v1::Reasoner::service_full_name(), false);
    metrics_.SetReady(false);
  }
  if (watchdog_ != nullptr) watchdog_->Stop();
  if (service_ == nullptr) return;
  service_->StartDraining();
  if (pool != nullptr) pool->Shutdown(deadline);
  // Every request has its result by now; what is open waits for its reader.
  service_->AwaitIdle(std::max(deadline, absl::Now() + std::min(timeout, kFlushGrace)));
  if (listener_ != nullptr) listener_->ShutdownBehindRefusals(timeout);
  service_->AwaitIdle(absl::InfiniteFuture());
  exposer_.reset();
}

}  // namespace nabla
