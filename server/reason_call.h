// One Reason call: the sink of its request's events on one side, gRPC's write reactor on the other.
//
//   auto call = std::make_shared<ReasonCall>(…);
//   call->Start(pool, std::move(request), deadline, omit_drafts);   // or call->Refuse(status)
//   return call.get();
//
// Three parties hold it: the handler while it runs, gRPC until OnDone, and the pool's done callback until it is
// dropped. So no party can outlive what it touches, in whatever order they finish. Thread-safe: OnEvent and the done
// callback come from a worker thread, the On… reactions from gRPC's threads. No lock is held while calling into gRPC,
// the pool or the log, and nothing here waits: a slow reader leaves its events in the outbox.
#ifndef NABLA_SERVER_REASON_CALL_H_
#define NABLA_SERVER_REASON_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/pool/engine_pool.h"
#include "engine/strategy/event.h"
#include "engine/strategy/request.h"
#include "nabla/v1/reasoner.pb.h"
#include "server/metrics.h"
#include "server/outbox.h"
#include "server/request_record.h"

namespace nabla {

class ReasonCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                         public EventSink,
                         public std::enable_shared_from_this<ReasonCall> {
 public:
  // Called once with how the call ended, when gRPC is done with it.
  using EndCallback = std::function<void(const RequestRecord&)>;

  ReasonCall(std::string request_id, Metrics* metrics, EndCallback on_end);

  // Exactly one of the two, once, by the handler.
  void Refuse(const absl::Status& status);
  void Start(EnginePool* pool, ReasonRequest request, absl::Time deadline, bool omit_drafts);

  void OnEvent(Event event) override;

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  void OnResult(absl::StatusOr<ReasonResult> result);
  void CountGap(const Event& event);

  // Starts the next write, or finishes the call, if it is time for either.
  void Pump();
  bool NextMessage(v1::ReasonEvent* message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status FinalStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);  // needs result_

  const std::string request_id_;
  Metrics* const metrics_;
  const EndCallback on_end_;
  const absl::Time arrival_;
  std::shared_ptr<ReasonCall> held_by_grpc_;  // set before gRPC can see the call, dropped in OnDone

  // Set by Start before the pool can call back, constant from then on.
  std::string strategy_;
  absl::Time deadline_ = absl::InfiniteFuture();
  bool omit_drafts_ = false;

  absl::Time last_commit_ = absl::InfinitePast();  // touched by the worker only

  grpc::ByteBuffer buffer_;  // belongs to whoever has set writing_

  mutable std::mutex mu_;
  Outbox outbox_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<RequestTicket> ticket_ ABSL_GUARDED_BY(mu_);  // while the request is with the pool
  std::optional<absl::StatusOr<ReasonResult>> result_ ABSL_GUARDED_BY(mu_);
  absl::Status abandoned_ ABSL_GUARDED_BY(mu_);  // not OK: nobody reads any more, and why
  uint64_t next_sequence_ ABSL_GUARDED_BY(mu_) = 0;
  bool admitted_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_written_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;  // Finish has been called
};

}  // namespace nabla

#endif  // NABLA_SERVER_REASON_CALL_H_
