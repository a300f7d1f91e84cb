#include "client/reasoner_client.h"

#include <optional>

#include "engine/base/status_macros.h"

namespace nabla {

absl::StatusOr<std::unique_ptr<ReasonerClient>> ReasonerClient::Create(const ChannelOptions& options) {
  NABLA_ASSIGN_OR_RETURN(Connection connection, Connect(options));
  return std::unique_ptr<ReasonerClient>(new ReasonerClient(std::move(connection)));
}

absl::StatusOr<v1::Finished> ReasonerClient::Reason(const v1::ReasonRequest& request, const EventCallback& on_event,
                                                    const CallOptions& options) {
  const auto context = std::make_shared<grpc::ClientContext>();
  Prepare(options, authorization_, context.get());
  const CancelHandle::Registration registration(options.cancel, context);
  const std::unique_ptr<grpc::ClientReader<v1::ReasonEvent>> reader = stub_->Reason(context.get(), request);
  std::optional<v1::Finished> finished;
  v1::ReasonEvent event;
  while (reader->Read(&event)) {
    if (on_event) on_event(event);
    if (event.has_finished()) finished = std::move(*event.mutable_finished());
  }
  const absl::Status status = ToAbslStatus(reader->Finish());
  if (!status.ok()) return status;
  if (!finished.has_value()) return absl::DataLossError("the server's answer ended without a Finished event");
  return *std::move(finished);
}

absl::StatusOr<v1::GetInfoResponse> ReasonerClient::GetInfo(const CallOptions& options) {
  const auto context = std::make_shared<grpc::ClientContext>();
  Prepare(options, authorization_, context.get());
  const CancelHandle::Registration registration(options.cancel, context);
  v1::GetInfoResponse response;
  const absl::Status status = ToAbslStatus(stub_->GetInfo(context.get(), {}, &response));
  if (!status.ok()) return status;
  return response;
}

}  // namespace nabla
