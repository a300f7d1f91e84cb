// nabla-reward-server: opens its ports, loads the reward model, serves until SIGTERM or SIGINT, finishes what runs,
// exits 0. A second signal ends it at once. Exits 1 once the device has failed, so that whoever keeps it running starts
// another.
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/pool/engine_pool.h"
#include "engine/reward/reward_engine.h"
#include "server/program.h"
#include "server/reward_config.h"
#include "server/reward_flags.h"
#include "server/reward_server.h"
#include "server/shutdown_signal.h"

namespace nabla {
namespace {

void PrintPorts(const RewardServer& server, const RewardServerOptions& options) {
  std::cout << "listening on " << HostPort(options.listener.host, server.port()) << std::endl;
  if (server.metrics_port() < 0) return;
  const std::string& host = options.metrics_host.empty() ? options.listener.host : options.metrics_host;
  std::cout << "metrics on http://" << HostPort(host, server.metrics_port()) << "/metrics" << std::endl;
}

// Why no calls should come; empty: they may.
std::string NotReady(const RewardEngine& engine) {
  if (!engine.healthy()) return "the device has failed";
  if (engine.time_without_progress() < kStuckAfter) return "";
  return absl::StrCat("the model has made no progress for ", absl::FormatDuration(kStuckAfter));
}

absl::Status Serve(RewardServerSetup setup) {
  absl::StatusOr<std::unique_ptr<RewardEngine>> loaded;  // outlives the server
  NABLA_ASSIGN_OR_RETURN(const std::unique_ptr<RewardServer> server, RewardServer::Create(setup.server));
  NABLA_RETURN_IF_ERROR(CatchShutdownSignals());
  PrintPorts(*server, setup.server);
  setup.engine.on_batch = [metrics = &server->metrics()](int64_t rows) { metrics->CountPass(rows); };
  LoadUnlessStopped([&] { loaded = RewardEngine::Create(setup.engine); }, [&server = *server] { server.Drain(); });
  NABLA_RETURN_IF_ERROR(loaded.status());
  const RewardEngine& engine = **loaded;
  server->Serve({.model = &engine.model(), .fingerprint = engine.fingerprint(), .embedding = engine.embedding()},
                [&engine] {
                  if (!engine.healthy()) WakeShutdownWaiter();
                  return NotReady(engine);
                });
  return ServeUntilStopped(setup.server.drain_timeout, "the device has failed; start the reward server again",
                           [&server = *server] { server.Drain(); });
}

absl::Status Run(Settings& settings) {
  NABLA_ASSIGN_OR_RETURN(RewardServerSetup setup, ReadRewardSetup(settings));
  NABLA_RETURN_IF_ERROR(settings.Locate(CheckFiles(setup)));
  if (OnlyCheckConfig()) {
    std::cout << "the configuration is right" << std::endl;
    return absl::OkStatus();
  }
  return Serve(std::move(setup));
}

}  // namespace
}  // namespace nabla

int main(int argc, char** argv) { return nabla::RunProgram(nabla::RewardServerProgram(), argc, argv, nabla::Run); }
