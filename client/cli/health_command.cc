#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/command.h"
#include "client/cli/flag_set.h"
#include "client/health_client.h"

namespace nabla {

int RunHealth(const std::vector<std::string>& arguments, Console* console) {
  ChannelOptions server{.address = kDefaultServer};
  std::string service = "nabla.v1.Reasoner";
  absl::Duration timeout = absl::Seconds(5);
  FlagSet flags("nabla health", "says whether a server takes requests, by its words and the exit code.", "");
  AddServerFlags(&server, &flags);
  flags.Add("service", &service,
            absl::StrCat("gRPC service to ask about; empty: the process as a whole (default ", service, ")."));
  flags.Add("timeout", &timeout, "Give up after this long (default 5s).");
  const absl::StatusOr<std::vector<std::string>> positional = flags.Parse(arguments);
  if (!positional.ok()) return UsageError(positional.status(), console);
  if (flags.help_requested()) {
    *console->out << flags.Help();
    return kExitOk;
  }
  if (!positional->empty()) {
    return UsageError(absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", positional->front(), "\"")),
                      console);
  }
  if (server.address.empty()) return UsageError(absl::InvalidArgumentError("--server: must not be empty"), console);
  const absl::StatusOr<bool> serving =
      IsServing(server, service, {.deadline = absl::Now() + timeout, .cancel = console->cancel});
  if (absl::IsInvalidArgument(serving.status())) return UsageError(serving.status(), console);  // a flag's file
  if (!serving.ok()) return CallError(serving.status(), server, console);
  *console->out << (*serving ? "SERVING" : "NOT_SERVING") << std::endl;
  return *serving ? kExitOk : kExitFailed;
}

}  // namespace nabla
