// W3C Trace Context: the trace that a call belongs to, from its header `traceparent`.
//
//   const std::optional<TraceContext> trace = ParseTraceparent(header);   // nothing: no valid one, which is ignored
//   context->AddInitialMetadata("traceresponse", FormatTraceparent(NewSpan(*trace)));
//
// Pure functions but for NewSpan; thread-safe. Source: https://www.w3.org/TR/trace-context/
#ifndef NABLA_SERVER_TRACE_CONTEXT_H_
#define NABLA_SERVER_TRACE_CONTEXT_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace nabla {

inline constexpr char kTraceparentHeader[] = "traceparent";

struct TraceContext {
  std::string trace_id;   // 32 lower-case hexadecimal digits, not all 0
  std::string parent_id;  // 16 of them, not all 0: the span that calls
  std::string flags;      // 2 of them; 01: sampled
};

std::optional<TraceContext> ParseTraceparent(absl::string_view header);

// The same trace, of a span that is drawn.
TraceContext NewSpan(const TraceContext& trace);

// In version 00.
std::string FormatTraceparent(const TraceContext& trace);

}  // namespace nabla

#endif  // NABLA_SERVER_TRACE_CONTEXT_H_
