#include "client/reasoner_client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <optional>

#include "absl/strings/cord.h"

namespace nabla {
namespace {

constexpr char kDetailsType[] = "type.googleapis.com/google.rpc.Status";

absl::Status ToAbslStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  if (!status.error_details().empty()) result.SetPayload(kDetailsType, absl::Cord(status.error_details()));
  return result;
}

void Prepare(const CallOptions& options, grpc::ClientContext* context) {
  if (options.deadline != absl::InfiniteFuture()) context->set_deadline(absl::ToChronoTime(options.deadline));
  if (!options.request_id.empty()) context->AddMetadata("nabla-request-id", options.request_id);
}

}  // namespace

// Keeps a call in its handle's list while it runs.
class CancelHandle::Registration {
 public:
  Registration(CancelHandle* handle, grpc::ClientContext* context) : handle_(handle), context_(context) {
    if (handle_ == nullptr) return;
    const std::lock_guard<std::mutex> lock(handle_->mu_);
    handle_->calls_.push_back(context_);
    if (handle_->cancelled_) context_->TryCancel();
  }
  ~Registration() {
    if (handle_ == nullptr) return;
    const std::lock_guard<std::mutex> lock(handle_->mu_);
    auto& calls = handle_->calls_;
    calls.erase(std::find(calls.begin(), calls.end(), context_));
  }

 private:
  CancelHandle* const handle_;
  grpc::ClientContext* const context_;
};

void CancelHandle::Cancel() {
  const std::lock_guard<std::mutex> lock(mu_);
  cancelled_ = true;
  for (grpc::ClientContext* call : calls_) call->TryCancel();
}

bool CancelHandle::cancelled() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return cancelled_;
}

bool IsUnreachable(const absl::Status& status) {
  return absl::IsUnavailable(status) && !status.GetPayload(kDetailsType).has_value();
}

absl::StatusOr<std::unique_ptr<ReasonerClient>> ReasonerClient::Create(const std::string& address) {
  if (address.empty()) return absl::InvalidArgumentError("the server's address is empty; expected host:port");
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // the longest draft is the server's to limit
  auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  return std::unique_ptr<ReasonerClient>(new ReasonerClient(v1::Reasoner::NewStub(channel)));
}

absl::StatusOr<v1::Finished> ReasonerClient::Reason(const v1::ReasonRequest& request, const EventCallback& on_event,
                                                    const CallOptions& options) {
  grpc::ClientContext context;
  Prepare(options, &context);
  const CancelHandle::Registration registration(options.cancel, &context);
  const std::unique_ptr<grpc::ClientReader<v1::ReasonEvent>> reader = stub_->Reason(&context, request);
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
  grpc::ClientContext context;
  Prepare(options, &context);
  const CancelHandle::Registration registration(options.cancel, &context);
  v1::GetInfoResponse response;
  const absl::Status status = ToAbslStatus(stub_->GetInfo(&context, {}, &response));
  if (!status.ok()) return status;
  return response;
}

}  // namespace nabla
