// The running reward server: gRPC (RewardModel, health, reflection) on one port, Prometheus metrics on another.
//
//   NABLA_ASSIGN_OR_RETURN(auto server, RewardServer::Create({.listener = {.port = 50052}}));
//   server->Serve(served, [&] { return engine->healthy(); });   // once the model is loaded
//   server->Drain();
//
// Health: "" is SERVING as long as the process answers, "nabla.v1.RewardModel" while calls are welcome: not before
// Serve, not once Drain has begun, not while the model is not ready. Thread-safe. The model outlives the server. Create
// returns once the ports are open; Drain blocks until everything has stopped; destruction stops without waiting for
// calls.
#ifndef NABLA_SERVER_REWARD_SERVER_H_
#define NABLA_SERVER_REWARD_SERVER_H_

#include <prometheus/exposer.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/authenticator.h"
#include "server/listener.h"
#include "server/periodic_task.h"
#include "server/reward_metrics.h"
#include "server/reward_service.h"

namespace nabla {

struct RewardServerOptions {
  std::string version;
  ListenerOptions listener;                          // its log is the server's
  std::string auth_tokens_file;                      // see Authenticator; empty: everybody may come
  std::string metrics_host;                          // empty: the listener's
  int metrics_port = -1;                             // 0: any free one; -1: no metrics
  absl::Duration drain_timeout = absl::Seconds(30);  // how long Drain lets calls run
  CallQueue::Options calls;
  RewardContextCache::Options contexts;
  absl::Duration watchdog_period = absl::Seconds(1);
};

class RewardServer {
 public:
  // INVALID_ARGUMENT naming the flag for files that cannot be used, UNAVAILABLE naming it where a port is taken or a
  // host is none of ours.
  static absl::StatusOr<std::unique_ptr<RewardServer>> Create(const RewardServerOptions& options);

  ~RewardServer();
  RewardServer(const RewardServer&) = delete;
  RewardServer& operator=(const RewardServer&) = delete;

  int port() const { return listener_->port(); }
  int metrics_port() const { return metrics_port_; }  // -1: no metrics
  RewardMetrics& metrics() { return metrics_; }

  // Takes calls from now on. At most once. `not_ready` says why no calls should come, "" where they may; thread-safe.
  void Serve(const ServedRewardModel& served, std::function<std::string()> not_ready);

  // Turns the service's health to NOT_SERVING, refuses new calls with UNAVAILABLE, lets the others run for up to the
  // drain timeout and closes the ports. Idempotent; a second caller waits for the first.
  void Drain();

 private:
  explicit RewardServer(const RewardServerOptions& options);

  absl::Status Open();
  absl::Status ExposeMetrics();
  void LookAtModel();
  void Stop(absl::Duration timeout);

  const RewardServerOptions options_;
  RewardMetrics metrics_;
  std::unique_ptr<Authenticator> authenticator_;
  std::unique_ptr<RewardService> service_;
  std::shared_ptr<CallGauges> gauges_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  int metrics_port_ = -1;

  std::mutex mu_;
  std::function<std::string()> ask_not_ready_ ABSL_GUARDED_BY(mu_);  // null before Serve
  std::string not_ready_ ABSL_GUARDED_BY(mu_) = "the model is being loaded";
  bool draining_ ABSL_GUARDED_BY(mu_) = false;

  std::mutex stop_mu_;
  bool stopped_ ABSL_GUARDED_BY(stop_mu_) = false;
  std::unique_ptr<PeriodicTask> watchdog_;
};

}  // namespace nabla

#endif  // NABLA_SERVER_REWARD_SERVER_H_
