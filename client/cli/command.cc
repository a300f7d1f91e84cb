#include "client/cli/command.h"

#include "absl/strings/str_cat.h"

namespace nabla {
namespace {

constexpr char kUsage[] =
    "nabla COMMAND [flags]: client of a Nabla server.\n\n"
    "  nabla reason \"question\"          ask, and watch the answer being revised\n"
    "  nabla chat                       ask in turns, each with what was said before\n"
    "  nabla info                       models, limits and load of the server\n"
    "  nabla health                     whether the server takes requests; for probes\n"
    "  nabla eval --data=FILE.jsonl     compare strategies on questions with known answers\n"
    "  nabla bench                      put load on the server and measure it\n\n"
    "nabla COMMAND --help lists the flags of a command.\n";

}  // namespace

int RunCommand(const std::vector<std::string>& arguments, Console* console) {
  if (arguments.empty()) {
    *console->error << kUsage;
    return kExitUsage;
  }
  const std::string& command = arguments.front();
  const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  if (command == "reason") return RunReason(rest, console);
  if (command == "chat") return RunChat(rest, console);
  if (command == "info") return RunInfo(rest, console);
  if (command == "health") return RunHealth(rest, console);
  if (command == "eval") return RunEval(rest, console);
  if (command == "bench") return RunBench(rest, console);
  if (command == "help" || command == "--help" || command == "-h") {
    *console->out << kUsage;
    return kExitOk;
  }
  return UsageError(absl::InvalidArgumentError(absl::StrCat("unknown command \"", command,
                                                            "\"; expected reason, chat, info, health, eval or bench")),
                    console);
}

int UsageError(const absl::Status& status, Console* console) {
  *console->error << "nabla: " << status.message() << std::endl;
  return kExitUsage;
}

int CallError(const absl::Status& status, const std::string& server, Console* console) {
  if (console->cancel != nullptr && console->cancel->cancelled()) {
    *console->error << "nabla: interrupted" << std::endl;
    return kExitInterrupted;
  }
  if (IsUnreachable(status)) {
    *console->error << "nabla: no server answers at " << server
                    << "; start one with nabla-server --model=FOLDER, or name another with --server=HOST:PORT"
                    << std::endl;
    return kExitFailed;
  }
  const char* fix = absl::IsDeadlineExceeded(status)    ? "; give it more time with --timeout"
                    : absl::IsResourceExhausted(status) ? "; try again in a moment"
                    : absl::IsUnimplemented(status)     ? "; does a Nabla server listen there?"
                                                        : "";
  *console->error << "nabla: " << status.message() << " (" << absl::StatusCodeToString(status.code()) << ")" << fix
                  << std::endl;
  return kExitFailed;
}

}  // namespace nabla
