// The running server: gRPC (Reasoner, health, reflection) on one port, Prometheus metrics on another, the pool behind
// them.
//
//   NABLA_ASSIGN_OR_RETURN(auto server, Server::Create({.port = 0}, std::move(pool)));
//   std::cout << "listening on 127.0.0.1:" << server->port() << std::endl;
//   server->Drain();
//
// Health is SERVING from Create to Drain, for "" and "nabla.v1.Reasoner". Owns the pool. Thread-safe. Create returns
// once the ports are open; Drain blocks until everything has stopped; destruction stops without waiting for requests.
#ifndef NABLA_SERVER_SERVER_H_
#define NABLA_SERVER_SERVER_H_

#include <grpcpp/server.h>
#include <prometheus/exposer.h>

#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/pool/engine_pool.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/reasoner_service.h"

namespace nabla {

struct ServerOptions {
  std::string host = "127.0.0.1";                    // address or name to listen on; "0.0.0.0" for all IPv4 interfaces
  int port = 0;                                      // 0: any free one, see Server::port()
  int metrics_port = -1;                             // 0: any free one; -1: no metrics
  absl::Duration drain_timeout = absl::Seconds(30);  // how long Drain lets requests run
  int max_new_tokens_limit = 4096;
  int max_rollouts_limit = 1024;
  LogSink log = LogToStderr();
};

class Server {
 public:
  // UNAVAILABLE naming the flag where a port is taken or the host is none of ours.
  static absl::StatusOr<std::unique_ptr<Server>> Create(const ServerOptions& options, std::unique_ptr<EnginePool> pool);

  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const { return port_; }
  int metrics_port() const { return metrics_port_; }  // -1: no metrics

  // Turns health to NOT_SERVING, refuses new requests with UNAVAILABLE, lets the others run for up to the drain
  // timeout, stops what is left and closes the ports. Idempotent; a second caller waits for the first.
  void Drain();

 private:
  Server(const ServerOptions& options, std::unique_ptr<EnginePool> pool);

  absl::Status Listen();
  absl::Status ExposeMetrics();
  void Stop(absl::Duration timeout);

  const ServerOptions options_;
  const std::unique_ptr<EnginePool> pool_;
  Metrics metrics_;
  const std::shared_ptr<PoolGauges> gauges_;
  ReasonerService service_;
  std::unique_ptr<grpc::Server> grpc_server_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  int port_ = 0;
  int metrics_port_ = -1;

  std::mutex stop_mu_;
  bool stopped_ ABSL_GUARDED_BY(stop_mu_) = false;
};

}  // namespace nabla

#endif  // NABLA_SERVER_SERVER_H_
