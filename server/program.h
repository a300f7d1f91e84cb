// A server as a program: its command line, the config file under it, --help, errors on stderr.
//
//   int main(int argc, char** argv) {
//     return RunProgram(ServerProgram(), argc, argv, [](Settings& settings) { return Serve(settings); });
//   }
//
// Its flags are those of NABLA_CONFIG_FLAG, --config and --check_config. Flags are the only global state of the
// process.
#ifndef NABLA_SERVER_PROGRAM_H_
#define NABLA_SERVER_PROGRAM_H_

#include <google/protobuf/message.h>

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/settings.h"

namespace nabla {

struct Program {
  const char* name;
  const char* introduction;                 // of its help: what it does, and examples
  const google::protobuf::Message* config;  // default instance of what the config file holds
};

// The file that --config names, with the flags that the command line gives over it.
absl::StatusOr<Settings> ReadFlags(const Program& program);

// --check_config: look and say, do not serve.
bool OnlyCheckConfig();

// Shapes --version, and lets flags be written with hyphens (--check-config) by rewriting them in `argv`.
void SetUpFlags(const Program& program, int argc, char** argv);

// --help: every flag, the field that it overrides and what it means.
bool PrintHelpIfAsked(const Program& program, int argc, char** argv);

// All of main(): `run` with the settings, if there is more to do than to print help. Returns the exit code.
int RunProgram(const Program& program, int argc, char** argv, const std::function<absl::Status(Settings&)>& run);

}  // namespace nabla

#endif  // NABLA_SERVER_PROGRAM_H_
