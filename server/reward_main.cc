// nabla-reward-server: opens its ports, loads the reward model, serves until SIGTERM or SIGINT, finishes what runs,
// exits 0. A second signal ends it at once.
#include <google/protobuf/stubs/logging.h>
#include <stdlib.h>

#include <iostream>
#include <memory>
#include <vector>

#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/pool/engine_pool.h"
#include "engine/reward/reward_engine.h"
#include "server/reward_flags.h"
#include "server/reward_server.h"
#include "server/shutdown_signal.h"

namespace nabla {
namespace {

void PrintPorts(const RewardServer& server, const std::string& host) {
  std::cout << "listening on " << HostPort(host, server.port()) << std::endl;
  if (server.metrics_port() < 0) return;
  std::cout << "metrics on http://" << HostPort(host, server.metrics_port()) << "/metrics" << std::endl;
}

// Why no calls should come; empty: they may.
std::string NotReady(const RewardEngine& engine) {
  if (!engine.healthy()) return "the device has failed";
  if (engine.time_without_progress() < kStuckAfter) return "";
  return absl::StrCat("the model has made no progress for ", absl::FormatDuration(kStuckAfter));
}

absl::Status Run(const std::vector<char*>& arguments) {
  if (arguments.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected argument \"", arguments[1], "\"; every option is a flag, see --help"));
  }
  NABLA_ASSIGN_OR_RETURN(RewardCommandLine command_line, ReadRewardFlags());
  std::unique_ptr<RewardEngine> engine;  // outlives the server
  NABLA_ASSIGN_OR_RETURN(const std::unique_ptr<RewardServer> server, RewardServer::Create(command_line.server));
  PrintPorts(*server, command_line.server.listener.host);
  command_line.engine.on_batch = [metrics = &server->metrics()](int64_t rows) { metrics->CountPass(rows); };
  NABLA_ASSIGN_OR_RETURN(engine, RewardEngine::Create(command_line.engine));
  NABLA_RETURN_IF_ERROR(CatchShutdownSignals());  // until here a signal ends the process: nothing has begun
  server->Serve({.model = &engine->model(), .fingerprint = engine->fingerprint(), .embedding = engine->embedding()},
                [&engine = *engine] { return NotReady(engine); });
  std::cout << "ready" << std::endl;
  AwaitShutdownSignal();
  std::cout << "draining" << std::endl;
  server->Drain();
  return absl::OkStatus();
}

}  // namespace
}  // namespace nabla

int main(int argc, char** argv) {
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);  // our own errors say what is wrong
  google::protobuf::SetLogHandler(nullptr);           // a bad request is its caller's to know, not the log's
  nabla::SetUpRewardUsage();
  const absl::Status status = nabla::Run(absl::ParseCommandLine(argc, argv));
  if (status.ok()) return 0;
  std::cerr << "nabla-reward-server: " << status.message() << std::endl;
  return 1;
}
