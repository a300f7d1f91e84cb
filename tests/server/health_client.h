// What a probe sees: grpc.health.v1's Check on a channel; and calls with bytes, for services without generated code.
#ifndef NABLA_TESTS_SERVER_HEALTH_CLIENT_H_
#define NABLA_TESTS_SERVER_HEALTH_CLIENT_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace nabla {

// A unary call with bytes in and bytes out.
inline grpc::Status CallWithBytes(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                                  const std::string& request, std::string* response) {
  grpc::GenericStub generic(channel);
  grpc::ClientContext context;
  const grpc::Slice slice(request);
  const grpc::ByteBuffer request_bytes(&slice, 1);
  grpc::ByteBuffer response_bytes;
  std::promise<void> done;
  grpc::Status status;
  generic.UnaryCall(&context, method, {}, &request_bytes, &response_bytes, [&](grpc::Status result) {
    status = std::move(result);
    done.set_value();
  });
  done.get_future().wait();
  grpc::Slice response_slice;
  if (status.ok() && response_bytes.DumpToSingleSlice(&response_slice).ok()) {
    response->assign(reinterpret_cast<const char*>(response_slice.begin()), response_slice.size());
  }
  return status;
}

// "SERVING", "NOT_SERVING" or the code of a call that failed.
inline std::string Health(const std::shared_ptr<grpc::Channel>& channel, const std::string& service) {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  grpc::ClientContext context;
  const grpc::Status status = grpc::health::v1::Health::NewStub(channel)->Check(&context, request, &response);
  if (!status.ok()) return absl::StrCat("code ", status.error_code());
  return grpc::health::v1::HealthCheckResponse::ServingStatus_Name(response.status());
}

}  // namespace nabla

#endif  // NABLA_TESTS_SERVER_HEALTH_CLIENT_H_
