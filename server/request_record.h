// What is known of a Reason call once it has ended; the metrics and the log are fed from it, each exactly once a call.
#ifndef NABLA_SERVER_REQUEST_RECORD_H_
#define NABLA_SERVER_REQUEST_RECORD_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/event.h"
#include "server/log.h"

namespace nabla {

struct RequestRecord {
  std::string request_id;
  std::string trace_id;                // of the caller's W3C trace context; empty without one
  std::string client;                  // whose request it was; empty where it was refused before that was known
  std::string strategy;                // empty where the request could not be read
  absl::Status status;                 // how the call ended, as its caller saw it
  bool admitted = false;               // the pool took the request
  absl::Duration duration;             // from the call's arrival to its end
  std::optional<ReasonResult> result;  // of calls that ended OK
};

LogEvent ToLogEvent(const RequestRecord& record);

}  // namespace nabla

#endif  // NABLA_SERVER_REQUEST_RECORD_H_
