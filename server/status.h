// The one place where an absl::Status becomes a gRPC status, with google.rpc details in the grpc-status-details-bin
// trailer:
//
//   INVALID_ARGUMENT, OUT_OF_RANGE with a message "field.path: what"   BadRequest naming the field
//   RESOURCE_EXHAUSTED, UNAVAILABLE                                    RetryInfo: of WithRetryDelay, else 1 s
//
//   return ToGrpcStatus(absl::InvalidArgumentError("nabla.max_rollouts: must be at least 1, got 0"));
#ifndef NABLA_SERVER_STATUS_H_
#define NABLA_SERVER_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace nabla {

// The status with a delay for its RetryInfo, rounded up to milliseconds.
absl::Status WithRetryDelay(absl::Status status, absl::Duration delay);

grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace nabla

#endif  // NABLA_SERVER_STATUS_H_
