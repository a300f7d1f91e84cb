#include "client/health_client.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace nabla {

absl::StatusOr<bool> IsServing(const ChannelOptions& server, const std::string& service, const CallOptions& options) {
  NABLA_ASSIGN_OR_RETURN(const Connection connection, Connect(server));
  const auto context = std::make_shared<grpc::ClientContext>();
  Prepare(options, connection.authorization, context.get());
  const CancelHandle::Registration registration(options.cancel, context);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  grpc::health::v1::HealthCheckResponse response;
  const absl::Status status =
      ToAbslStatus(grpc::health::v1::Health::NewStub(connection.channel)->Check(context.get(), request, &response));
  if (absl::IsNotFound(status)) {
    return absl::NotFoundError(absl::StrCat("the server has no service \"", service, "\""));
  }
  if (!status.ok()) return status;
  return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

}  // namespace nabla
