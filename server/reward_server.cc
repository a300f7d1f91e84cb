#include "server/reward_server.h"

#include <utility>

#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "server/metrics_port.h"

namespace nabla {

RewardServer::RewardServer(const RewardServerOptions& options) : options_(options), metrics_(options.version) {}

absl::StatusOr<std::unique_ptr<RewardServer>> RewardServer::Create(const RewardServerOptions& options) {
  std::unique_ptr<RewardServer> server(new RewardServer(options));
  NABLA_RETURN_IF_ERROR(server->Open());
  return server;
}

RewardServer::~RewardServer() { Stop(absl::ZeroDuration()); }

absl::Status RewardServer::Open() {
  NABLA_ASSIGN_OR_RETURN(authenticator_, Authenticator::Create(options_.auth_tokens_file, options_.listener.log));
  service_ = std::make_unique<RewardService>(RewardServiceOptions{.version = options_.version,
                                                                  .authenticator = authenticator_.get(),
                                                                  .log = options_.listener.log,
                                                                  .calls = options_.calls,
                                                                  .contexts = options_.contexts},
                                             &metrics_);
  NABLA_RETURN_IF_ERROR(ExposeMetrics());
  NABLA_ASSIGN_OR_RETURN(listener_, Listener::Create(options_.listener, {service_.get()}));
  listener_->SetServing(v1::RewardModel::service_full_name(), false);
  WarnIfOpenToEverybody(options_.listener, authenticator_->required());
  watchdog_ = std::make_unique<PeriodicTask>(options_.watchdog_period, [this] {
    authenticator_->ReloadIfChanged();
    LookAtModel();
  });
  return absl::OkStatus();
}

absl::Status RewardServer::ExposeMetrics() {
  if (options_.metrics_port < 0) return absl::OkStatus();
  const std::string& host = options_.metrics_host.empty() ? options_.listener.host : options_.metrics_host;
  NABLA_ASSIGN_OR_RETURN(exposer_, OpenMetricsPort(host, options_.metrics_port));
  exposer_->RegisterCollectable(metrics_.registry());
  gauges_ = std::make_shared<CallGauges>(&service_->calls());
  exposer_->RegisterCollectable(gauges_);
  metrics_port_ = exposer_->GetListeningPorts().front();
  return absl::OkStatus();
}

void RewardServer::Serve(const ServedRewardModel& served, std::function<std::string()> not_ready) {
  service_->Serve(served);
  {
    const std::lock_guard<std::mutex> lock(mu_);
    ask_not_ready_ = std::move(not_ready);
  }
  LookAtModel();
}

void RewardServer::LookAtModel() {
  const std::lock_guard<std::mutex> lock(mu_);
  if (ask_not_ready_ == nullptr || draining_) return;
  std::string not_ready = ask_not_ready_();
  if (not_ready == not_ready_) return;
  not_ready_ = std::move(not_ready);
  listener_->SetServing(v1::RewardModel::service_full_name(), not_ready_.empty());
  metrics_.SetReady(not_ready_.empty());
  const LogSink& log = options_.listener.log;
  if (not_ready_.empty()) {
    log(LogEvent(LogLevel::kInfo, "ready"));
  } else {
    log(LogEvent(LogLevel::kError, "not_ready").Add("message", not_ready_));
  }
}

void RewardServer::Drain() { Stop(options_.drain_timeout); }

void RewardServer::Stop(absl::Duration timeout) {
  const std::lock_guard<std::mutex> stop_lock(stop_mu_);
  if (stopped_) return;
  stopped_ = true;
  const absl::Time deadline = absl::Now() + timeout;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    draining_ = true;
    if (listener_ != nullptr) listener_->SetServing(v1::RewardModel::service_full_name(), false);
    metrics_.SetReady(false);
  }
  if (watchdog_ != nullptr) watchdog_->Stop();
  if (service_ == nullptr) return;
  service_->StartDraining();
  service_->AwaitIdle(deadline);
  if (listener_ != nullptr) listener_->ShutdownBehindRefusals(timeout);
  service_->AwaitIdle(absl::InfiniteFuture());
  exposer_.reset();
}

}  // namespace nabla
