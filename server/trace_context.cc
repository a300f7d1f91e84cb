#include "server/trace_context.h"

#include <algorithm>
#include <cstdint>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace nabla {
namespace {

constexpr size_t kTraceIdAt = 3;  // 00-<trace id>-<parent id>-<flags>
constexpr size_t kTraceIdSize = 32;
constexpr size_t kParentIdAt = kTraceIdAt + kTraceIdSize + 1;
constexpr size_t kParentIdSize = 16;
constexpr size_t kFlagsAt = kParentIdAt + kParentIdSize + 1;
constexpr size_t kSize = kFlagsAt + 2;

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'); });
}

bool IsZero(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '0'; });
}

}  // namespace

std::optional<TraceContext> ParseTraceparent(absl::string_view header) {
  if (header.size() < kSize) return std::nullopt;
  const absl::string_view version = header.substr(0, 2);
  const absl::string_view trace_id = header.substr(kTraceIdAt, kTraceIdSize);
  const absl::string_view parent_id = header.substr(kParentIdAt, kParentIdSize);
  const absl::string_view flags = header.substr(kFlagsAt, 2);
  const bool hyphens = header[kTraceIdAt - 1] == '-' && header[kParentIdAt - 1] == '-' && header[kFlagsAt - 1] == '-';
  if (!hyphens || !IsHex(version) || !IsHex(trace_id) || !IsHex(parent_id) || !IsHex(flags)) return std::nullopt;
  if (version == "ff" || IsZero(trace_id) || IsZero(parent_id)) return std::nullopt;
  // Later versions may go on behind a hyphen; version 00 may not.
  if (header.size() > kSize && (version == "00" || header[kSize] != '-')) return std::nullopt;
  return TraceContext{
      .trace_id = std::string(trace_id), .parent_id = std::string(parent_id), .flags = std::string(flags)};
}

TraceContext NewSpan(const TraceContext& trace) {
  thread_local absl::BitGen generator;  // seeded from the system's
  TraceContext span = trace;
  span.parent_id = absl::StrFormat("%016x", absl::Uniform<uint64_t>(generator) | 1);
  return span;
}

std::string FormatTraceparent(const TraceContext& trace) {
  return absl::StrCat("00-", trace.trace_id, "-", trace.parent_id, "-", trace.flags);
}

}  // namespace nabla
