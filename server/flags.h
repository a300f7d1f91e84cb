// The flags of nabla-server and what they say. Flags are the only global state of the process.
//
//   if (PrintHelpIfAsked(argc, argv)) return 0;
//   absl::ParseCommandLine(argc, argv);
//   NABLA_ASSIGN_OR_RETURN(Settings settings, ReadFlags());
#ifndef NABLA_SERVER_FLAGS_H_
#define NABLA_SERVER_FLAGS_H_

#include "absl/status/statusor.h"
#include "server/settings.h"

namespace nabla {

// The file that --config names, with the flags that the command line gives over it.
absl::StatusOr<Settings> ReadFlags();

// --check_config: look and say, do not serve.
bool OnlyCheckConfig();

// Shapes --version, and lets flags be written with hyphens (--check-config) by rewriting them in `argv`.
void SetUpFlags(int argc, char** argv);

// --help: every flag, the field that it overrides and what it means.
bool PrintHelpIfAsked(int argc, char** argv);

}  // namespace nabla

#endif  // NABLA_SERVER_FLAGS_H_
