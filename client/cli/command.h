// What the subcommands of `nabla` share: streams and cancellation handed in by main, the flags that name the server,
// errors as one sentence.
//
//   int main(…) { return RunCommand(arguments, &console); }
//
// Commands block until done and return the process's exit code: 0 done, 1 failed, 2 wrong command line, 130
// interrupted.
#ifndef NABLA_CLIENT_CLI_COMMAND_H_
#define NABLA_CLIENT_CLI_COMMAND_H_

#include <functional>
#include <istream>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/channel.h"
#include "client/cli/flag_set.h"
#include "client/cli/terminal_view.h"
#include "client/reasoner_client.h"

namespace nabla {

constexpr int kExitOk = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr int kExitInterrupted = 130;

constexpr char kDefaultServer[] = "127.0.0.1:50051";

// The world as a command sees it. Nothing is owned.
struct Console {
  std::istream* in = nullptr;
  std::ostream* out = nullptr;
  std::ostream* error = nullptr;
  bool in_is_terminal = false;
  bool error_is_terminal = false;
  TerminalOptions terminal;        // of `out`
  CancelHandle* cancel = nullptr;  // fired by Ctrl-C
  std::function<void()> rearm;     // makes the next Ctrl-C fire `cancel` again; may be empty
};

// `arguments` without the program's name.
int RunCommand(const std::vector<std::string>& arguments, Console* console);

int RunReason(const std::vector<std::string>& arguments, Console* console);
int RunChat(const std::vector<std::string>& arguments, Console* console);
int RunInfo(const std::vector<std::string>& arguments, Console* console);
int RunHealth(const std::vector<std::string>& arguments, Console* console);
int RunEval(const std::vector<std::string>& arguments, Console* console);
int RunBench(const std::vector<std::string>& arguments, Console* console);

// --server, the flags of TLS and --token_file.
void AddServerFlags(ChannelOptions* server, FlagSet* flags);

// Print the error as "nabla: …" with the fix and return the exit code.
int UsageError(const absl::Status& status, Console* console);
int CallError(const absl::Status& status, const ChannelOptions& server, Console* console);

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_COMMAND_H_
