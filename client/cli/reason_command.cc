#include <google/protobuf/util/json_util.h>

#include <iterator>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/command.h"
#include "client/cli/flag_set.h"
#include "client/cli/request_flags.h"
#include "client/cli/summary.h"
#include "client/cli/terminal_view.h"
#include "engine/base/status_macros.h"
#include "engine/text/utf8.h"

namespace nabla {
namespace {

struct ReasonFlags {
  ChannelOptions server{.address = kDefaultServer};
  std::string strategy;
  bool json = false;
  absl::Duration timeout = absl::InfiniteDuration();
  RequestFlags request;
};

void AddFlags(ReasonFlags* values, FlagSet* flags) {
  AddServerFlags(&values->server, flags);
  flags->Add("strategy", &values->strategy, RequestFlags::StrategyHelp());
  flags->Add("timeout", &values->timeout, "Give up after this long (default: never).");
  flags->Add("json", &values->json, "Print the events, one JSON object a line.");
  values->request.AddTo(flags);
}

absl::StatusOr<std::string> ReadQuestion(const std::vector<std::string>& positional, Console* console) {
  if (positional.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected argument \"", positional[1], "\"; put the question in quotes"));
  }
  if (positional.size() == 1 && positional[0] != "-") return positional[0];
  if (positional.empty() && console->in_is_terminal) {
    return absl::InvalidArgumentError(
        "no question; write nabla reason \"question\", or - to read it from standard input");
  }
  std::string question{std::istreambuf_iterator<char>(*console->in), std::istreambuf_iterator<char>()};
  while (absl::EndsWith(question, "\n") || absl::EndsWith(question, "\r")) question.pop_back();
  if (question.empty()) return absl::InvalidArgumentError("the question on standard input is empty");
  return question;
}

absl::StatusOr<v1::ReasonRequest> BuildRequest(const ReasonFlags& values, const FlagSet& flags,
                                               const std::vector<std::string>& positional, Console* console) {
  NABLA_ASSIGN_OR_RETURN(const std::string strategy, RequestFlags::Strategy(flags, values.strategy));
  NABLA_ASSIGN_OR_RETURN(const std::string question, ReadQuestion(positional, console));
  if (!IsValidUtf8(question))
    return absl::InvalidArgumentError("the question is not valid UTF-8; convert it, for example with iconv");
  return values.request.Request(strategy, question);
}

void PrintJson(const v1::ReasonEvent& event, std::ostream* out) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string line;
  const auto status = google::protobuf::util::MessageToJsonString(event, &line, options);
  *out << (status.ok() ? line : absl::StrCat("{\"error\": \"", status.message().as_string(), "\"}")) << std::endl;
}

}  // namespace

int RunReason(const std::vector<std::string>& arguments, Console* console) {
  ReasonFlags values;
  FlagSet flags("nabla reason", "asks a question and shows how the answer is revised.", "\"question\"");
  AddFlags(&values, &flags);
  const absl::StatusOr<std::vector<std::string>> positional = flags.Parse(arguments);
  if (!positional.ok()) return UsageError(positional.status(), console);
  if (flags.help_requested()) {
    *console->out << flags.Help();
    return kExitOk;
  }
  const absl::StatusOr<v1::ReasonRequest> request = BuildRequest(values, flags, *positional, console);
  if (!request.ok()) return UsageError(request.status(), console);
  absl::StatusOr<std::unique_ptr<ReasonerClient>> client = ReasonerClient::Create(values.server);
  if (!client.ok()) return UsageError(client.status(), console);

  TerminalView view(console->terminal, [console](absl::string_view text) { *console->out << text << std::flush; });
  std::vector<v1::Revision> accepted;
  const auto on_event = [&](const v1::ReasonEvent& event) {
    if (values.json) return PrintJson(event, console->out);
    view.OnEvent(event);
    if (event.has_revision() && event.revision().accepted()) accepted.push_back(event.revision());
  };
  const absl::StatusOr<v1::Finished> finished =
      (*client)->Reason(*request, on_event, {.deadline = absl::Now() + values.timeout, .cancel = console->cancel});
  if (!values.json) view.End();
  if (!finished.ok()) return CallError(finished.status(), values.server, console);
  if (values.json) return kExitOk;
  for (const v1::Revision& revision : accepted) *console->error << FormatRevision(revision) << "\n";
  *console->error << FormatSummary(*finished) << std::endl;
  return kExitOk;
}

}  // namespace nabla
