// The server's log: one line of key=value pairs a finished request. Prompts and answers are never logged.
//
//   LogSink log = LogToStderr();
//   log(FormatRecord(record, absl::Now()));
//   // time=2026-01-31T12:00:00.123Z level=info event=request_finished request_id=6f1c… strategy=nabla code=OK …
//
// The sink is thread-safe; a line is written by one system call, so lines never mix.
#ifndef NABLA_SERVER_LOG_H_
#define NABLA_SERVER_LOG_H_

#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/request_record.h"

namespace nabla {

// Takes one line without its newline.
using LogSink = std::function<void(absl::string_view line)>;

LogSink LogToStderr();

std::string FormatRecord(const RequestRecord& record, absl::Time now);

}  // namespace nabla

#endif  // NABLA_SERVER_LOG_H_
