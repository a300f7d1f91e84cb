#include "server/log.h"

#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace nabla {
namespace {

void AppendPair(std::string* line, absl::string_view key, absl::string_view value) {
  absl::StrAppend(line, line->empty() ? "" : " ", key, "=");
  bool plain = !value.empty();
  for (unsigned char c : value) plain = plain && c > ' ' && c != '"' && c != '=' && c != '\\' && c != 0x7f;
  if (plain) {
    absl::StrAppend(line, value);
    return;
  }
  line->push_back('"');
  for (unsigned char c : value) {
    if (c == '"' || c == '\\') {
      line->push_back('\\');
      line->push_back(static_cast<char>(c));
    } else if (c < ' ' || c == 0x7f) {
      absl::StrAppendFormat(line, "\\x%02x", c);
    } else {
      line->push_back(static_cast<char>(c));
    }
  }
  line->push_back('"');
}

void AppendSeconds(std::string* line, absl::string_view key, absl::Duration duration) {
  AppendPair(line, key, absl::StrFormat("%.6f", absl::ToDoubleSeconds(duration)));
}

}  // namespace

LogSink LogToStderr() {
  return [](absl::string_view line) {
    const std::string text = absl::StrCat(line, "\n");
    while (::write(STDERR_FILENO, text.data(), text.size()) < 0 && errno == EINTR) {
    }
  };
}

std::string FormatRecord(const RequestRecord& record, absl::Time now) {
  std::string line;
  AppendPair(&line, "time", absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", now, absl::UTCTimeZone()));
  AppendPair(&line, "level", record.status.ok() || absl::IsCancelled(record.status) ? "info" : "warning");
  AppendPair(&line, "event", record.admitted ? "request_finished" : "request_refused");
  AppendPair(&line, "request_id", record.request_id);
  AppendPair(&line, "strategy", record.strategy);
  AppendPair(&line, "code", absl::StatusCodeToString(record.status.code()));
  if (!record.status.ok()) AppendPair(&line, "message", record.status.message());
  AppendSeconds(&line, "duration_seconds", record.duration);
  if (record.result.has_value()) {
    const Usage& usage = record.result->usage;
    AppendPair(&line, "prompt_tokens", absl::StrCat(usage.prompt_tokens));
    AppendPair(&line, "completion_tokens", absl::StrCat(usage.completion_tokens));
    AppendPair(&line, "rollouts", absl::StrCat(usage.rollouts));
    AppendPair(&line, "model_calls", absl::StrCat(usage.model_calls));
    AppendSeconds(&line, "queue_seconds", usage.queue_time);
    AppendSeconds(&line, "time_to_first_token_seconds", usage.time_to_first_token);
    AppendSeconds(&line, "refine_seconds", usage.refine_time);
    AppendSeconds(&line, "reward_seconds", usage.reward_time);
    AppendSeconds(&line, "total_seconds", usage.total_time);
  }
  return line;
}

}  // namespace nabla
