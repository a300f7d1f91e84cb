#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "client/cli/command.h"
#include "client/cli/flag_set.h"
#include "client/cli/request_flags.h"
#include "client/cli/summary.h"
#include "client/cli/terminal_view.h"
#include "engine/text/utf8.h"

namespace nabla {
namespace {

constexpr char kChatHelp[] =
    "/reset forgets what was said, /help shows this; Ctrl-C stops the answer, Ctrl-D ends the conversation.\n";

struct ChatFlags {
  ChannelOptions server{.address = kDefaultServer};
  std::string strategy;
  absl::Duration timeout = absl::InfiniteDuration();
  RequestFlags request;
};

v1::Message MakeMessage(const std::string& role, const std::string& content) {
  v1::Message message;
  message.set_role(role);
  message.set_content(content);
  return message;
}

// A conversation: asks with all that was said before, and remembers what was answered.
class Chat {
 public:
  Chat(const ChatFlags& values, std::string strategy, ReasonerClient* client, Console* console)
      : values_(values), strategy_(std::move(strategy)), client_(client), console_(console) {}

  void Reset() { said_.clear(); }

  // The exit code that this turn would have as a command of its own. A turn without an answer is forgotten.
  int Ask(const std::string& question) {
    if (!IsValidUtf8(question)) {
      return UsageError(absl::InvalidArgumentError("that is not valid UTF-8; is the terminal set to UTF-8?"), console_);
    }
    said_.push_back(MakeMessage("user", question));
    const absl::StatusOr<v1::ReasonRequest> request = values_.request.Request(strategy_, said_);
    if (!request.ok()) return Forget(UsageError(request.status(), console_));
    Rearm();  // after a Ctrl-C at the prompt
    TerminalView view(console_->terminal, [this](absl::string_view text) { *console_->out << text << std::flush; });
    const absl::StatusOr<v1::Finished> finished =
        client_->Reason(*request, [&](const v1::ReasonEvent& event) { view.OnEvent(event); },
                        {.deadline = absl::Now() + values_.timeout, .cancel = console_->cancel});
    view.End();
    if (!finished.ok()) {
      const int exit_code = CallError(finished.status(), values_.server, console_);
      Rearm();
      return Forget(exit_code);
    }
    *console_->error << FormatSummary(*finished) << std::endl;
    if (finished->text().empty()) return Forget(kExitOk);  // the server takes no empty message back
    said_.push_back(MakeMessage("assistant", finished->text()));
    return kExitOk;
  }

 private:
  void Rearm() {
    if (console_->cancel == nullptr || !console_->cancel->cancelled()) return;
    console_->cancel->Reset();
    if (console_->rearm) console_->rearm();
  }

  int Forget(int exit_code) {
    said_.pop_back();
    return exit_code;
  }

  const ChatFlags& values_;
  const std::string strategy_;
  ReasonerClient* const client_;
  Console* const console_;
  std::vector<v1::Message> said_;
};

// Reads turns to the end of the input. A person may try again behind an error; a script's input ends there.
int Converse(Chat* chat, Console* console) {
  const auto prompt = [console] {
    if (console->in_is_terminal) *console->out << "> " << std::flush;
  };
  if (console->in_is_terminal) *console->error << kChatHelp << std::flush;
  prompt();
  for (std::string line; std::getline(*console->in, line); prompt()) {
    const std::string turn(absl::StripAsciiWhitespace(line));
    int exit_code = kExitOk;
    if (turn.empty()) continue;
    if (turn == "/reset") {
      chat->Reset();
    } else if (turn == "/help") {
      *console->error << kChatHelp << std::flush;
    } else if (turn.front() == '/') {
      exit_code = UsageError(
          absl::InvalidArgumentError(absl::StrCat("unknown command ", turn, "; expected /reset or /help")), console);
    } else {
      exit_code = chat->Ask(turn);
    }
    if (exit_code != kExitOk && !console->in_is_terminal) return exit_code;
  }
  if (console->in_is_terminal) *console->out << std::endl;
  return kExitOk;
}

}  // namespace

int RunChat(const std::vector<std::string>& arguments, Console* console) {
  ChatFlags values;
  FlagSet flags("nabla chat", "asks in turns; every question goes with what was said before.", "");
  AddServerFlags(&values.server, &flags);
  flags.Add("strategy", &values.strategy, RequestFlags::StrategyHelp());
  flags.Add("timeout", &values.timeout, "Give up on an answer after this long (default: never).");
  values.request.AddTo(&flags);
  const absl::StatusOr<std::vector<std::string>> positional = flags.Parse(arguments);
  if (!positional.ok()) return UsageError(positional.status(), console);
  if (flags.help_requested()) {
    *console->out << flags.Help() << "\nIn the conversation: " << kChatHelp;
    return kExitOk;
  }
  if (!positional->empty()) {
    return UsageError(absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", positional->front(),
                                                              "\"; ask it in the conversation")),
                      console);
  }
  const absl::StatusOr<std::string> strategy = RequestFlags::Strategy(flags, values.strategy);
  if (!strategy.ok()) return UsageError(strategy.status(), console);
  const absl::StatusOr<v1::ReasonRequest> checked = values.request.Request(*strategy, "?");
  if (!checked.ok()) return UsageError(checked.status(), console);
  const absl::StatusOr<std::unique_ptr<ReasonerClient>> client = ReasonerClient::Create(values.server);
  if (!client.ok()) return UsageError(client.status(), console);
  Chat chat(values, *strategy, client->get(), console);
  return Converse(&chat, console);
}

}  // namespace nabla
