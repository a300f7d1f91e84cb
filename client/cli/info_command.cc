#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/cli/command.h"
#include "client/cli/flag_set.h"

namespace nabla {
namespace {

std::string FormatModel(const char* title, const v1::ModelInfo& model) {
  std::string line = absl::StrFormat("%-13s %s (%s, %s parameters, %s on %s, up to %u tokens", title, model.name(),
                                     model.architecture(), absl::StrCat(model.parameters()), model.dtype(),
                                     model.device(), model.max_length());
  if (!model.reward_kind().empty()) absl::StrAppend(&line, ", ", model.reward_kind());
  return absl::StrCat(line, ")\n");
}

std::string FormatInfo(const v1::GetInfoResponse& info) {
  std::string text = absl::StrFormat("%-13s %s\n", "version", info.version());
  absl::StrAppend(&text, FormatModel("model", info.model()));
  if (info.has_draft_model()) absl::StrAppend(&text, FormatModel("draft model", info.draft_model()));
  if (info.has_reward_model()) absl::StrAppend(&text, FormatModel("reward model", info.reward_model()));
  for (const v1::ModelInfo& guard : info.guard_models()) absl::StrAppend(&text, FormatModel("guard model", guard));
  absl::StrAppendFormat(&text, "%-13s %s\n", "strategies", absl::StrJoin(info.strategies(), ", "));
  absl::StrAppendFormat(&text, "%-13s %u new tokens, %u rollouts a request\n", "limits", info.max_new_tokens_limit(),
                        info.max_rollouts_limit());
  for (const v1::EngineInfo& engine : info.engines()) {
    absl::StrAppendFormat(&text, "%-13s %s: %s, %u running, %.0f%% of the key/value memory in use\n", "engine",
                          engine.device(), engine.healthy() ? "up" : "lost", engine.running(),
                          100 * engine.kv_cache_usage_ratio());
  }
  absl::StrAppendFormat(&text, "%-13s %u running, %u waiting, %u can run at once\n", "load", info.running(),
                        info.waiting(), info.workers());
  return text;
}

// Asks again while nothing listens there, or what listens is not ready, for up to `wait`.
absl::StatusOr<v1::GetInfoResponse> GetInfo(ReasonerClient* client, absl::Duration timeout, absl::Duration wait,
                                            CancelHandle* cancel) {
  constexpr absl::Duration kPause = absl::Milliseconds(100);
  const absl::Time give_up = absl::Now() + wait;
  while (true) {
    absl::StatusOr<v1::GetInfoResponse> info = client->GetInfo({.deadline = absl::Now() + timeout, .cancel = cancel});
    if (!absl::IsUnavailable(info.status()) || absl::Now() + kPause > give_up) return info;
    absl::SleepFor(kPause);
  }
}

}  // namespace

int RunInfo(const std::vector<std::string>& arguments, Console* console) {
  ChannelOptions server{.address = kDefaultServer};
  absl::Duration timeout = absl::Seconds(10);
  absl::Duration wait = absl::ZeroDuration();
  FlagSet flags("nabla info", "prints models, limits and load of a server.", "");
  AddServerFlags(&server, &flags);
  flags.Add("timeout", &timeout, "Give up on an answer after this long (default 10s).");
  flags.Add("wait", &wait, "Ask again for this long until the server is up and ready, for example 30s (default 0s).");
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
  absl::StatusOr<std::unique_ptr<ReasonerClient>> client = ReasonerClient::Create(server);
  if (!client.ok()) return UsageError(client.status(), console);
  const absl::StatusOr<v1::GetInfoResponse> info = GetInfo(client->get(), timeout, wait, console->cancel);
  if (!info.ok()) return CallError(info.status(), server, console);
  *console->out << FormatInfo(*info) << std::flush;
  return kExitOk;
}

}  // namespace nabla
