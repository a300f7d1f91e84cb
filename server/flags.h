// The flags of nabla-server and what they say. Flags are the only global state of the process.
//
//   absl::ParseCommandLine(argc, argv);
//   NABLA_ASSIGN_OR_RETURN(CommandLine command_line, ReadFlags());
#ifndef NABLA_SERVER_FLAGS_H_
#define NABLA_SERVER_FLAGS_H_

#include "absl/status/statusor.h"
#include "engine/pool/engine_pool.h"
#include "server/server.h"

namespace nabla {

struct CommandLine {
  EnginePoolOptions pool;
  ServerOptions server;
};

// INVALID_ARGUMENT "--flag: what is wrong", also for a flag that would have no effect.
absl::StatusOr<CommandLine> ReadFlags();

// Shapes --help: all of this program's flags, paths as in the source tree.
void SetUpUsage();

}  // namespace nabla

#endif  // NABLA_SERVER_FLAGS_H_
