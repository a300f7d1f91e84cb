#include "server/reason_call.h"

#include <grpcpp/support/slice.h>

#include <utility>
#include <variant>

#include "absl/time/clock.h"
#include "server/conversion.h"
#include "server/status.h"

namespace nabla {
namespace {

// gRPC's timers and the wall clock round differently; a cancellation this close to the deadline is the deadline.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(10);

}  // namespace

ReasonCall::ReasonCall(CallInfo info, ReasonCallHost* host)
    : info_(std::move(info)), host_(host), arrival_(absl::Now()) {}

void ReasonCall::Refuse(const absl::Status& status) {
  held_by_grpc_ = shared_from_this();
  {
    const std::lock_guard<std::mutex> lock(mu_);
    result_ = status;
    writing_ = false;
    scheduled_ = true;
  }
  // Not at once: under overload, those of a round go out together, for a fraction of the work.
  host_->writers().Schedule(shared_from_this());
}

void ReasonCall::Start(EnginePool* pool, ReasonRequest request, SubmitOptions options, bool omit_drafts) {
  held_by_grpc_ = shared_from_this();
  strategy_ = StrategyName(request.strategy);
  deadline_ = options.deadline;
  omit_drafts_ = omit_drafts;
  submitted_ = absl::Now();
  request.traceparent = info_.traceparent;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    writing_ = true;  // events wait: the metadata goes out ahead of them, but not ahead of a refusal
  }
  absl::StatusOr<std::shared_ptr<RequestTicket>> ticket = pool->Submit(
      std::move(request), std::move(options), this,
      [self = shared_from_this()](absl::StatusOr<ReasonResult> result) { self->OnResult(std::move(result)); });
  if (!ticket.ok()) {
    const bool no_room = absl::IsResourceExhausted(ticket.status());
    return Refuse(no_room ? WithRetryDelay(ticket.status(), host_->RetryDelay()) : ticket.status());
  }
  StartSendInitialMetadata();
  bool cancel = false;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    writing_ = false;
    admitted_ = true;
    cancel = !abandoned_.ok();
    if (!result_.has_value())
      ticket_ = *ticket;  // kept after the result, it could hold this call through the pool's callback
  }
  host_->metrics().CountAdmitted();
  if (cancel) (*ticket)->Cancel();
  Pump();
}

void ReasonCall::OnEvent(Event event) {
  LeaveQueue();
  CountGap(event);
  if (omit_drafts_ && (std::holds_alternative<DraftEvent>(event) || std::holds_alternative<ProgressEvent>(event)))
    return;
  bool schedule = false;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    if (!abandoned_.ok()) return;
    outbox_.Push(std::move(event));
    schedule = NeedsSchedule();
  }
  if (schedule) host_->writers().Schedule(shared_from_this());
}

bool ReasonCall::NeedsSchedule() {
  if (scheduled_ || writing_ || closed_) return false;  // the end of the write pumps
  scheduled_ = true;
  return true;
}

void ReasonCall::Write() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    scheduled_ = false;
  }
  Pump();
}

void ReasonCall::LeaveQueue() {
  if (!std::exchange(left_queue_, true)) host_->metrics().ObserveQueueTime(strategy_, absl::Now() - submitted_);
}

void ReasonCall::CountGap(const Event& event) {
  const auto* committed = std::get_if<CommittedEvent>(&event);
  if (committed == nullptr) return;
  const absl::Time now = absl::Now();
  if (last_commit_ != absl::InfinitePast()) {
    host_->metrics().CountCommitted(strategy_, now - last_commit_, committed->token_ids.size());
  }
  last_commit_ = now;
}

// From one of the pool's threads, which has nothing else to do: the answer's end need not wait for a writer.
void ReasonCall::OnResult(absl::StatusOr<ReasonResult> result) {
  LeaveQueue();
  host_->metrics().CountFlushing();
  std::shared_ptr<RequestTicket> ticket;  // released without the lock
  {
    const std::lock_guard<std::mutex> lock(mu_);
    result_ = std::move(result);
    ticket.swap(ticket_);
  }
  Pump();
}

void ReasonCall::OnWriteDone(bool ok) {
  std::shared_ptr<RequestTicket> ticket;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    writing_ = false;
    if (!ok && abandoned_.ok()) {
      abandoned_ = absl::CancelledError("the client went away");
      outbox_.Clear();
      ticket = ticket_;
    }
  }
  if (ticket != nullptr) ticket->Cancel();
  Pump();
}

void ReasonCall::OnCancel() {
  std::shared_ptr<RequestTicket> ticket;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    abandoned_ = absl::Now() + kDeadlineSlack >= deadline_
                     ? absl::DeadlineExceededError("the request's deadline has passed")
                     : absl::CancelledError("the client cancelled the call");
    outbox_.Clear();
    ticket = ticket_;
  }
  if (ticket != nullptr) ticket->Cancel();
  Pump();
}

void ReasonCall::Pump() {
  bool write = false;
  Next next;
  grpc::Status status;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    if (writing_ || closed_) return;
    if (TakeNext(&next)) {
      writing_ = write = true;
      closed_ = next.result != nullptr;  // nothing follows it
    } else if (result_.has_value()) {
      closed_ = true;
      status = ToGrpcStatus(FinalStatus());
    } else {
      return;
    }
  }
  if (write) {
    Send(std::move(next));
  } else {
    Finish(std::move(status));
  }
}

// Without the lock, so that whoever emits events does not wait for their conversion.
void ReasonCall::Send(Next next) {
  v1::ReasonEvent message;
  if (next.event.has_value()) {
    message = ToProto(*std::move(next.event), info_.request_id);
  } else {
    *message.mutable_finished() = ToProto(*next.result);
  }
  message.set_sequence(next.sequence);
  const grpc::Slice slice(message.SerializeAsString());
  {
    // Of one write after another, which gRPC orders out of ThreadSanitizer's sight.
    const std::lock_guard<std::mutex> lock(mu_);
    buffer_ = grpc::ByteBuffer(&slice, 1);
  }
  // What is there goes out together, the status with the result: one thing to wake up for.
  grpc::WriteOptions options;
  if (next.is_followed) options.set_buffer_hint();
  next.result != nullptr ? StartWriteAndFinish(&buffer_, options, grpc::Status::OK) : StartWrite(&buffer_, options);
}

absl::Status ReasonCall::FinalStatus() const {
  const absl::Status& status = result_->status();
  const bool reader_decides = status.ok() || absl::IsCancelled(status);
  return !abandoned_.ok() && reader_decides ? abandoned_ : status;
}

bool ReasonCall::TakeNext(Next* next) {
  if (!abandoned_.ok()) return false;
  next->event = outbox_.Pop();
  if (!next->event.has_value()) {
    if (!result_.has_value() || !result_->ok()) return false;
    next->result = &**result_;
  }
  next->sequence = next_sequence_++;
  next->is_followed = next->result == nullptr && (outbox_.size() > 0 || result_.has_value());
  return true;
}

void ReasonCall::OnDone() {
  RequestRecord record = {.request_id = std::move(info_.request_id),
                          .trace_id = std::move(info_.trace_id),
                          .client = std::move(info_.client),
                          .strategy = strategy_};
  record.duration = absl::Now() - arrival_;
  info_.place.reset();
  {
    const std::lock_guard<std::mutex> lock(mu_);
    record.admitted = admitted_;
    record.status = FinalStatus();
    if (record.status.ok()) record.result = **std::move(result_);
  }
  host_->OnCallEnded(record);
  const std::shared_ptr<ReasonCall> last = std::move(held_by_grpc_);
}

}  // namespace nabla
