// The server's log: one structured line an event, as logfmt or JSON. Prompts and answers are never logged.
//
//   LogSink log = LogToStderr(LogFormat::kLogfmt);
//   log(LogEvent(LogLevel::kInfo, "tokens_reloaded").Add("file", path).Add("tokens", 3));
//   // time=2026-01-31T12:00:00.123Z level=info event=tokens_reloaded file=/etc/nabla/tokens tokens=3
//
// Sinks are thread-safe; a line is written by one system call, so lines never mix.
#ifndef NABLA_SERVER_LOG_H_
#define NABLA_SERVER_LOG_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace nabla {

enum class LogLevel { kInfo, kWarning, kError };
enum class LogFormat { kLogfmt, kJson };

// What happened and what is known of it, in order.
class LogEvent {
 public:
  LogEvent(LogLevel level, absl::string_view name) : level_(level), name_(name) {}

  LogEvent& Add(absl::string_view key, absl::string_view value);
  LogEvent& Add(absl::string_view key, int64_t value);
  LogEvent& AddSeconds(absl::string_view key, absl::Duration value);  // with microseconds

  // One line without its newline.
  std::string Format(LogFormat format, absl::Time now) const;

 private:
  struct Field {
    std::string key;
    std::string value;
    bool is_number = false;
  };
  std::string ToLogfmt(absl::Time now) const;
  std::string ToJson(absl::Time now) const;

  LogLevel level_;
  std::string name_;
  std::vector<Field> fields_;
};

using LogSink = std::function<void(const LogEvent& event)>;

LogSink LogToStderr(LogFormat format = LogFormat::kLogfmt);

}  // namespace nabla

#endif  // NABLA_SERVER_LOG_H_
