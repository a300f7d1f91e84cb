// nabla-server: opens its ports, loads the models, serves until SIGTERM or SIGINT, finishes what runs, exits 0. A
// second signal ends it at once. Exits 1 once every engine has failed, so that whoever keeps it running starts another.
#include <iostream>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "engine/base/status_macros.h"
#include "engine/pool/engine_pool.h"
#include "server/config.h"
#include "server/flags.h"
#include "server/program.h"
#include "server/remote_reward_factory.h"
#include "server/server.h"
#include "server/shutdown_signal.h"

namespace nabla {
namespace {

void PrintPorts(const Server& server, const ServerOptions& options) {
  std::cout << "listening on " << HostPort(options.listener.host, server.port()) << std::endl;
  if (server.metrics_port() < 0) return;
  const std::string& host = options.metrics_host.empty() ? options.listener.host : options.metrics_host;
  std::cout << "metrics on http://" << HostPort(host, server.metrics_port()) << "/metrics" << std::endl;
}

absl::Status Serve(ServerSetup setup) {
  setup.server.on_lost = WakeShutdownWaiter;
  NABLA_ASSIGN_OR_RETURN(const std::unique_ptr<Server> server, Server::Create(setup.server));
  NABLA_RETURN_IF_ERROR(CatchShutdownSignals());
  PrintPorts(*server, setup.server);
  setup.pool.on_batch = [metrics = &server->metrics()](int64_t rows) { metrics->ObserveBatch(rows); };
  setup.pool.on_usage = [metrics = &server->metrics()](const Usage& usage) { metrics->CountUsage(usage); };

  RewardModelFactory remote_reward;
  if (setup.remote_reward) {
    remote_reward = RemoteRewardFactory(
        *setup.remote_reward, [metrics = &server->metrics()](absl::StatusCode code) { metrics->CountRewardRpc(code); },
        setup.server.listener.log);
  }
  absl::StatusOr<std::unique_ptr<EnginePool>> pool;
  LoadUnlessStopped([&] { pool = EnginePool::Create(setup.pool, remote_reward); },
                    [&server = *server] { server.Drain(); });
  NABLA_RETURN_IF_ERROR(pool.status());
  server->Serve(*std::move(pool));
  return ServeUntilStopped(setup.server.drain_timeout, "every engine has failed; start the server again",
                           [&server = *server] { server.Drain(); });
}

absl::Status Run(Settings& settings) {
  NABLA_ASSIGN_OR_RETURN(ServerSetup setup, ReadSetup(settings));
  NABLA_RETURN_IF_ERROR(settings.Locate(CheckFiles(setup)));
  if (OnlyCheckConfig()) {
    std::cout << "the configuration is right" << std::endl;
    return absl::OkStatus();
  }
  return Serve(std::move(setup));
}

}  // namespace
}  // namespace nabla

int main(int argc, char** argv) { return nabla::RunProgram(nabla::ServerProgram(), argc, argv, nabla::Run); }
