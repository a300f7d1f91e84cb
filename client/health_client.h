// Asks a server how it is, by the standard grpc.health.v1.
//
//   NABLA_ASSIGN_OR_RETURN(bool serving, IsServing({.address = "127.0.0.1:50051"}, "nabla.v1.Reasoner", {.deadline =
//   …}));
//
// Blocks until the answer is there; thread-safe.
#ifndef NABLA_CLIENT_HEALTH_CLIENT_H_
#define NABLA_CLIENT_HEALTH_CLIENT_H_

#include <string>

#include "absl/status/statusor.h"
#include "client/call.h"
#include "client/channel.h"

namespace nabla {

// Whether `service` (empty: the server as a whole) is SERVING. NOT_FOUND if the server has no such service,
// UNAVAILABLE if nothing listens there, INVALID_ARGUMENT as Connect says.
absl::StatusOr<bool> IsServing(const ChannelOptions& server, const std::string& service, const CallOptions& options);

}  // namespace nabla

#endif  // NABLA_CLIENT_HEALTH_CLIENT_H_
