// The running server: gRPC (Reasoner, health, reflection) on one port, Prometheus metrics on another, the pool behind
// them.
//
//   NABLA_ASSIGN_OR_RETURN(auto server, Server::Create({.listener = {.port = 50051}}));
//   server->Serve(std::move(pool));   // once the models are loaded
//   server->Drain();
//
// Health: "" is SERVING as long as the process answers. "nabla.v1.Reasoner" is SERVING while requests are welcome: not
// before Serve, not once Drain has begun, not while no engine is healthy or one is stuck. A watchdog looks at the
// engines and at the file of tokens. Owns the pool. Thread-safe. Create returns once the ports are open; Drain blocks
// until everything has stopped; destruction stops without waiting for requests.
#ifndef NABLA_SERVER_SERVER_H_
#define NABLA_SERVER_SERVER_H_

#include <prometheus/exposer.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/pool/engine_pool.h"
#include "server/authenticator.h"
#include "server/listener.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/periodic_task.h"
#include "server/reasoner_service.h"

namespace nabla {

struct ServerOptions {
  ListenerOptions listener;                          // its log is the server's
  std::string auth_tokens_file;                      // see Authenticator; empty: everybody may come
  std::string metrics_host;                          // empty: the listener's
  int metrics_port = -1;                             // 0: any free one; -1: no metrics
  absl::Duration drain_timeout = absl::Seconds(30);  // how long Drain lets requests run
  int max_new_tokens_limit = 4096;
  int max_rollouts_limit = 1024;
  absl::Duration watchdog_period = absl::Seconds(1);
  std::function<void()> on_lost;  // once every engine has failed, from a thread of the server's; may be null
};

class Server {
 public:
  // INVALID_ARGUMENT naming the flag for files that cannot be used, UNAVAILABLE naming it where a port is taken or a
  // host is none of ours.
  static absl::StatusOr<std::unique_ptr<Server>> Create(const ServerOptions& options);

  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const { return listener_->port(); }
  int metrics_port() const { return metrics_port_; }  // -1: no metrics
  Metrics& metrics() { return metrics_; }

  // Takes requests from now on. At most once; after Drain the pool is only shut down.
  void Serve(std::unique_ptr<EnginePool> pool);

  // Turns the service's health to NOT_SERVING, refuses new requests with UNAVAILABLE, lets the others run for up to the
  // drain timeout, stops what is left and closes the ports. Idempotent; a second caller waits for the first.
  void Drain();

 private:
  explicit Server(const ServerOptions& options);

  absl::Status Open();
  absl::Status ExposeMetrics();
  void LookAtEngines();
  void Stop(absl::Duration timeout);

  const ServerOptions options_;
  Metrics metrics_;
  std::unique_ptr<Authenticator> authenticator_;

  std::mutex mu_;
  std::unique_ptr<EnginePool> pool_ ABSL_GUARDED_BY(mu_);  // set once, then constant
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  std::string not_ready_ ABSL_GUARDED_BY(mu_) = "the models are being loaded";  // why; empty: ready

  std::shared_ptr<PoolGauges> gauges_;
  std::unique_ptr<ReasonerService> service_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  int metrics_port_ = -1;

  std::mutex stop_mu_;
  bool stopped_ ABSL_GUARDED_BY(stop_mu_) = false;
  std::unique_ptr<PeriodicTask> watchdog_;
};

}  // namespace nabla

#endif  // NABLA_SERVER_SERVER_H_
