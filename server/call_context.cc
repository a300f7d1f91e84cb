#include "server/call_context.h"

#include <chrono>

namespace nabla {

absl::string_view Header(const grpc::ServerContextBase& context, const char* name) {
  const auto header = context.client_metadata().find(name);
  if (header == context.client_metadata().end()) return "";
  return absl::string_view(header->second.data(), header->second.size());
}

absl::Time DeadlineOf(const grpc::ServerContextBase& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  return deadline == std::chrono::system_clock::time_point::max() ? absl::InfiniteFuture() : absl::FromChrono(deadline);
}

}  // namespace nabla
