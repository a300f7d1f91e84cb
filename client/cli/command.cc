#include "client/cli/command.h"

#include "absl/strings/match.h"
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

std::string DescribeUnreachable(const absl::Status& status, const ChannelOptions& server) {
  if (server.uses_tls()) {
    return absl::StrCat("no server answers at ", server.address,
                        " by TLS; check --server, and that --tls_ca, --tls_server_name and --tls_certificate suit it");
  }
  if (absl::StrContains(status.message(), "Socket closed")) {
    return absl::StrCat(server.address, " has closed the connection; if the server uses TLS, give --tls or --tls_ca");
  }
  return absl::StrCat("no server answers at ", server.address,
                      "; start one with nabla-server --model=FOLDER, or name another with --server=HOST:PORT");
}

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

void AddServerFlags(ChannelOptions* server, FlagSet* flags) {
  flags->Add("server", &server->address, absl::StrCat("HOST:PORT of the server (default ", kDefaultServer, ")."));
  flags->Add("tls", &server->tls, "Use TLS and trust the system's authorities; each of the next four implies TLS.");
  flags->Add("tls_ca", &server->tls_ca_file, "PEM file of the authorities to trust instead of the system's.");
  flags->Add("tls_certificate", &server->tls_certificate_file, "PEM file of the certificate to show to the server.");
  flags->Add("tls_key", &server->tls_key_file, "PEM file of its private key.");
  flags->Add("tls_server_name", &server->tls_server_name,
             "Name in the server's certificate (default: the HOST of --server).");
  flags->Add("token_file", &server->token_file, "File of the token to send; to another machine by TLS alone.");
}

int UsageError(const absl::Status& status, Console* console) {
  *console->error << "nabla: " << status.message() << std::endl;
  return kExitUsage;
}

int CallError(const absl::Status& status, const ChannelOptions& server, Console* console) {
  if (console->cancel != nullptr && console->cancel->cancelled()) {
    *console->error << "nabla: interrupted" << std::endl;
    return kExitInterrupted;
  }
  if (IsUnreachable(status)) {
    *console->error << "nabla: " << DescribeUnreachable(status, server) << std::endl;
    return kExitFailed;
  }
  const char* fix = absl::IsDeadlineExceeded(status)    ? "; give it more time with --timeout"
                    : absl::IsResourceExhausted(status) ? "; try again in a moment"
                    : absl::IsUnauthenticated(status)   ? "; name the file of a token with --token_file"
                    : absl::IsUnimplemented(status)     ? "; does a Nabla server listen there?"
                                                        : "";
  *console->error << "nabla: " << status.message() << " (" << absl::StatusCodeToString(status.code()) << ")" << fix
                  << std::endl;
  return kExitFailed;
}

}  // namespace nabla
