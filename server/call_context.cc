#include "server/call_context.h"

#include <cstdint>

namespace nabla {

absl::string_view Header(const grpc::ServerContextBase& context, const char* name) {
  const auto header = context.client_metadata().find(name);
  if (header == context.client_metadata().end()) return "";
  return absl::string_view(header->second.data(), header->second.size());
}

absl::Time DeadlineOf(const grpc::ServerContextBase& context) {
  // Later ones, in nanoseconds, do not fit the 64 bits of deadline().
  constexpr int64_t kLatestSeconds = 9'000'000'000;
  return context.raw_deadline().tv_sec > kLatestSeconds ? absl::InfiniteFuture() : absl::FromChrono(context.deadline());
}

}  // namespace nabla
