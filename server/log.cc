#include "server/log.h"

#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace nabla {
namespace {

const char* Name(LogLevel level) {
  if (level == LogLevel::kInfo) return "info";
  return level == LogLevel::kWarning ? "warning" : "error";
}

std::string Timestamp(absl::Time now) { return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", now, absl::UTCTimeZone()); }

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

}  // namespace

LogEvent& LogEvent::Add(absl::string_view key, absl::string_view value) {
  fields_.push_back({.key = std::string(key), .value = std::string(value)});
  return *this;
}

LogEvent& LogEvent::Add(absl::string_view key, int64_t value) {
  fields_.push_back({.key = std::string(key), .value = absl::StrCat(value), .is_number = true});
  return *this;
}

LogEvent& LogEvent::AddSeconds(absl::string_view key, absl::Duration value) {
  fields_.push_back(
      {.key = std::string(key), .value = absl::StrFormat("%.6f", absl::ToDoubleSeconds(value)), .is_number = true});
  return *this;
}

std::string LogEvent::Format(LogFormat format, absl::Time now) const {
  return format == LogFormat::kJson ? ToJson(now) : ToLogfmt(now);
}

std::string LogEvent::ToLogfmt(absl::Time now) const {
  std::string line;
  AppendPair(&line, "time", Timestamp(now));
  AppendPair(&line, "level", Name(level_));
  AppendPair(&line, "event", name_);
  for (const Field& field : fields_) AppendPair(&line, field.key, field.value);
  return line;
}

std::string LogEvent::ToJson(absl::Time now) const {
  const auto quote = [](const std::string& text) {
    return nlohmann::json(text).dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false,
                                     nlohmann::json::error_handler_t::replace);
  };
  std::string line =
      absl::StrCat("{\"time\":\"", Timestamp(now), "\",\"level\":\"", Name(level_), "\",\"event\":", quote(name_));
  for (const Field& field : fields_) {
    absl::StrAppend(&line, ",", quote(field.key), ":", field.is_number ? field.value : quote(field.value));
  }
  return line + "}";
}

LogSink LogToStderr(LogFormat format) {
  return [format](const LogEvent& event) {
    const std::string text = event.Format(format, absl::Now()) + "\n";
    while (::write(STDERR_FILENO, text.data(), text.size()) < 0 && errno == EINTR) {
    }
  };
}

}  // namespace nabla
