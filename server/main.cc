// nabla-server: loads the models, serves until SIGTERM or SIGINT, finishes what runs, exits 0. A second signal ends it
// at once.
#include <google/protobuf/stubs/logging.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <memory>
#include <utility>
#include <vector>

#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/pool/engine_pool.h"
#include "server/flags.h"
#include "server/server.h"

namespace nabla {
namespace {

int signal_pipe[2];

void OnSignal(int /*signal*/) {
  const char byte = 0;
  static_cast<void>(!write(signal_pipe[1], &byte, 1));
}

// From here on the first of each signal is reported by AwaitSignal.
void CatchSignals() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
}

void AwaitSignal() {
  char byte = 0;
  while (read(signal_pipe[0], &byte, 1) < 0 && errno == EINTR) {
  }
}

absl::Status Run(const std::vector<char*>& arguments) {
  if (arguments.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected argument \"", arguments[1], "\"; every option is a flag, see --help"));
  }
  NABLA_ASSIGN_OR_RETURN(CommandLine command_line, ReadFlags());
  NABLA_ASSIGN_OR_RETURN(std::unique_ptr<EnginePool> pool, EnginePool::Create(command_line.pool));
  if (pipe(signal_pipe) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe for signals");
  NABLA_ASSIGN_OR_RETURN(std::unique_ptr<Server> server, Server::Create(command_line.server, std::move(pool)));
  CatchSignals();
  std::cout << "listening on " << command_line.server.host << ":" << server->port() << std::endl;
  if (server->metrics_port() >= 0) {
    std::cout << "metrics on http://" << command_line.server.host << ":" << server->metrics_port() << "/metrics"
              << std::endl;
  }
  AwaitSignal();
  std::cout << "draining" << std::endl;
  server->Drain();
  return absl::OkStatus();
}

}  // namespace
}  // namespace nabla

int main(int argc, char** argv) {
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);  // our own errors say what is wrong
  google::protobuf::SetLogHandler(nullptr);           // a bad request is its caller's to know, not the log's
  nabla::SetUpUsage();
  const absl::Status status = nabla::Run(absl::ParseCommandLine(argc, argv));
  if (status.ok()) return 0;
  std::cerr << "nabla-server: " << status.message() << std::endl;
  return 1;
}
