#include "client/async_reasoner_client.h"

#include <grpcpp/support/client_callback.h>

#include <optional>

#include "engine/base/status_macros.h"

namespace nabla {

// One call; deletes itself when gRPC is done with it.
class AsyncReasonerClient::Call : public grpc::ClientReadReactor<v1::ReasonEvent> {
 public:
  Call(AsyncReasonerClient* client, v1::ReasonRequest request, const CallOptions& options, EventCallback on_event,
       DoneCallback on_done)
      : client_(client),
        request_(std::move(request)),
        on_event_(std::move(on_event)),
        on_done_(std::move(on_done)),
        by_caller_(options.cancel, context_),
        by_client_(&client->stop_, context_) {
    Prepare(options, client->authorization_, context_.get());
  }

  void Start() {
    client_->stub_->async()->Reason(context_.get(), &request_, this);
    StartRead(&event_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    started_ = true;
    if (on_event_) on_event_(event_);
    if (event_.has_finished()) finished_ = std::move(*event_.mutable_finished());
    StartRead(&event_);
  }

  void OnDone(const grpc::Status& status) override {
    absl::StatusOr<v1::Finished> result = absl::DataLossError("the server's answer ended without a Finished event");
    if (WasReset(status)) {
      result = absl::UnavailableError("the server reset the call before it began: it is shutting down; try again");
    } else if (!status.ok()) {
      result = ToAbslStatus(status);
    } else if (finished_.has_value()) {
      result = *std::move(finished_);
    }
    const DoneCallback on_done = std::move(on_done_);
    AsyncReasonerClient* const client = client_;
    delete this;  // first: the caller's CancelHandle may go once the end is known
    on_done(std::move(result));
    client->OnCallEnded();
  }

 private:
  // Whether this is what gRPC makes of a call that reaches a server in the moment that it closes its port.
  bool WasReset(const grpc::Status& status) const {
    const bool asked_for = by_caller_.cancelled() || by_client_.cancelled();
    return status.error_code() == grpc::StatusCode::CANCELLED && !started_ && !asked_for;
  }

  AsyncReasonerClient* const client_;
  const v1::ReasonRequest request_;
  const EventCallback on_event_;
  DoneCallback on_done_;
  const std::shared_ptr<grpc::ClientContext> context_ = std::make_shared<grpc::ClientContext>();
  const CancelHandle::Registration by_caller_;
  const CancelHandle::Registration by_client_;
  v1::ReasonEvent event_;
  bool started_ = false;  // an event has come
  std::optional<v1::Finished> finished_;
};

absl::StatusOr<std::unique_ptr<AsyncReasonerClient>> AsyncReasonerClient::Create(const ChannelOptions& options) {
  NABLA_ASSIGN_OR_RETURN(Connection connection, Connect(options));
  return std::unique_ptr<AsyncReasonerClient>(new AsyncReasonerClient(std::move(connection)));
}

AsyncReasonerClient::~AsyncReasonerClient() {
  stop_.Cancel();
  std::unique_lock<std::mutex> lock(mu_);
  call_ended_.wait(lock, [this] { return open_calls_ == 0; });
}

void AsyncReasonerClient::Reason(v1::ReasonRequest request, const CallOptions& options, EventCallback on_event,
                                 DoneCallback on_done) {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    ++open_calls_;
  }
  (new Call(this, std::move(request), options, std::move(on_event), std::move(on_done)))->Start();
}

void AsyncReasonerClient::OnCallEnded() {
  const std::lock_guard<std::mutex> lock(mu_);  // notified under it: whoever waits may destroy this behind it
  --open_calls_;
  call_ended_.notify_all();
}

}  // namespace nabla
