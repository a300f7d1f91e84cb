#include "client/call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/cord.h"

namespace nabla {
namespace {

constexpr char kDetailsType[] = "type.googleapis.com/google.rpc.Status";

}  // namespace

CancelHandle::Registration::Registration(CancelHandle* handle, std::shared_ptr<grpc::ClientContext> context)
    : handle_(handle), context_(std::move(context)) {
  if (handle_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(handle_->mu_);
  handle_->calls_.push_back(context_);
  if (handle_->cancelled_) context_->TryCancel();  // it has not started: nothing is called back
}

CancelHandle::Registration::~Registration() {
  if (handle_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(handle_->mu_);
  auto& calls = handle_->calls_;
  calls.erase(std::find(calls.begin(), calls.end(), context_));
}

void CancelHandle::Cancel() {
  std::vector<std::shared_ptr<grpc::ClientContext>> calls;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    cancelled_ = true;
    calls = calls_;
  }
  // Without the lock: a call may end, and be unregistered, on this very thread.
  for (const auto& call : calls) call->TryCancel();
}

void CancelHandle::Reset() {
  const std::lock_guard<std::mutex> lock(mu_);
  cancelled_ = false;
}

bool CancelHandle::cancelled() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return cancelled_;
}

void Prepare(const CallOptions& options, const std::string& authorization, grpc::ClientContext* context) {
  if (options.deadline != absl::InfiniteFuture()) context->set_deadline(absl::ToChronoTime(options.deadline));
  if (!options.request_id.empty()) context->AddMetadata("nabla-request-id", options.request_id);
  if (!authorization.empty()) context->AddMetadata("authorization", authorization);
}

absl::Status ToAbslStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  if (!status.error_details().empty()) result.SetPayload(kDetailsType, absl::Cord(status.error_details()));
  return result;
}

bool IsUnreachable(const absl::Status& status) {
  return absl::IsUnavailable(status) && !status.GetPayload(kDetailsType).has_value();
}

}  // namespace nabla
