// What a handler reads from gRPC's context of its call.
//
//   const absl::string_view token = Header(*context, "authorization");
//   const absl::Time deadline = DeadlineOf(*context);
//
// Thread-safe. The text belongs to the context.
#ifndef NABLA_SERVER_CALL_CONTEXT_H_
#define NABLA_SERVER_CALL_CONTEXT_H_

#include <grpcpp/server_context.h>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace nabla {

// A field of the client's metadata; empty where there is none.
absl::string_view Header(const grpc::ServerContextBase& context, const char* name);

// Infinite where the client has set none.
absl::Time DeadlineOf(const grpc::ServerContextBase& context);

}  // namespace nabla

#endif  // NABLA_SERVER_CALL_CONTEXT_H_
