// One Reason call: the sink of its request's events on one side, gRPC's write reactor on the other.
//
//   auto call = std::make_shared<ReasonCall>(CallInfo{.request_id = "6f1c…"}, &host);
//   call->Start(pool, std::move(request), {.deadline = deadline}, omit_drafts);   // or call->Refuse(status)
//   return call.get();
//
// Four parties hold it: the handler while it runs, gRPC until OnDone, the pool's done callback until it is dropped, and
// the write queue while the call is scheduled there. So no party can outlive what it touches, in whatever order they
// finish. Thread-safe: OnEvent comes from the engine's execution thread and leaves the event in the outbox, for a
// thread of the write queue to carry to gRPC; the done callback comes from one of the pool's threads, the On… reactions
// from gRPC's. No lock is held while calling into gRPC, the pool or the log, and nothing here waits: a slow reader
// leaves its events in the outbox.
#ifndef NABLA_SERVER_REASON_CALL_H_
#define NABLA_SERVER_REASON_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/event.h"
#include "engine/base/request.h"
#include "engine/pool/engine_pool.h"
#include "nabla/v1/reasoner.pb.h"
#include "server/metrics.h"
#include "server/outbox.h"
#include "server/request_record.h"
#include "server/write_queue.h"

namespace nabla {

// Whose call it is; the start of its record.
struct CallInfo {
  std::string request_id;
  std::string trace_id;
  std::string traceparent;  // of the call's own span in that trace
  std::string client;
  std::shared_ptr<const void> place;  // Caller::place, dropped with the end of the call
};

// What calls need around them. Outlives them.
class ReasonCallHost {
 public:
  virtual ~ReasonCallHost() = default;
  virtual Metrics& metrics() = 0;
  virtual WriteQueue& writers() = 0;
  virtual absl::Duration RetryDelay() = 0;  // for a request that the queue has no room for
  // Called once with how the call ended, when gRPC is done with it.
  virtual void OnCallEnded(const RequestRecord& record) = 0;
};

class ReasonCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                         public EventSink,
                         public WriteJob,
                         public std::enable_shared_from_this<ReasonCall> {
 public:
  ReasonCall(CallInfo info, ReasonCallHost* host);

  // Exactly one of the two, once, by the handler.
  void Refuse(const absl::Status& status);
  void Start(EnginePool* pool, ReasonRequest request, SubmitOptions options, bool omit_drafts);

  void OnEvent(Event event) override;
  void Write() override;

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // What to write: an event, or the result.
  struct Next {
    std::optional<Event> event;
    const ReasonResult* result = nullptr;  // that of the call, constant while a write is under way
    uint64_t sequence = 0;
    bool is_followed = false;  // by another, or the status, as soon as gRPC has taken this
  };

  void OnResult(absl::StatusOr<ReasonResult> result);
  void CountGap(const Event& event);
  void LeaveQueue();  // at the first of its calls

  // Whether the caller is to hand this to the write queue, because nobody is about to pump.
  bool NeedsSchedule() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Starts the next write, or finishes the call, if it is time for either.
  void Pump();
  void Send(Next next);
  bool TakeNext(Next* next) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status FinalStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);  // needs result_

  CallInfo info_;  // constant until OnDone
  ReasonCallHost* const host_;
  const absl::Time arrival_;
  std::shared_ptr<ReasonCall> held_by_grpc_;  // set before gRPC can see the call, dropped in OnDone

  // Set by Start before the pool can call back, constant from then on.
  std::string strategy_;
  absl::Time deadline_ = absl::InfiniteFuture();
  absl::Time submitted_;
  bool omit_drafts_ = false;

  // Touched only by whoever emits events, and brings the result behind them.
  absl::Time last_commit_ = absl::InfinitePast();
  bool left_queue_ = false;

  grpc::ByteBuffer buffer_;  // belongs to whoever has set writing_

  mutable std::mutex mu_;
  Outbox outbox_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<RequestTicket> ticket_ ABSL_GUARDED_BY(mu_);  // while the request is with the pool
  std::optional<absl::StatusOr<ReasonResult>> result_ ABSL_GUARDED_BY(mu_);
  absl::Status abandoned_ ABSL_GUARDED_BY(mu_);  // not OK: nobody reads any more, and why
  uint64_t next_sequence_ ABSL_GUARDED_BY(mu_) = 0;
  bool admitted_ ABSL_GUARDED_BY(mu_) = false;
  bool scheduled_ ABSL_GUARDED_BY(mu_) = false;  // in the write queue
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;  // the last there is has been handed to gRPC
};

}  // namespace nabla

#endif  // NABLA_SERVER_REASON_CALL_H_
