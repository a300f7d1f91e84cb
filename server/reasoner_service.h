// nabla.v1.Reasoner over an EnginePool: reads and checks a request, gives it an id, hands it to a ReasonCall.
//
//   ReasonerService service({.version = "0.1.0"}, authenticator.get(), &metrics, LogToStderr());
//   Listener::Create({}, {&service});
//   service.Serve(pool.get());                        // until then requests get UNAVAILABLE
//   service.StartDraining();                          // from then on, too
//   service.AwaitIdle(absl::Now() + absl::Seconds(30));
//
// Thread-safe; handlers never block. The pool, the authenticator and the metrics must outlive the service, the service
// its gRPC server.
// Reason takes the request as bytes: gRPC answers an unreadable one with an empty UNIMPLEMENTED, here it is an
// INVALID_ARGUMENT.
#ifndef NABLA_SERVER_REASONER_SERVICE_H_
#define NABLA_SERVER_REASONER_SERVICE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <condition_variable>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "engine/pool/engine_pool.h"
#include "nabla/v1/reasoner.grpc.pb.h"
#include "server/authenticator.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/reason_call.h"
#include "server/request_record.h"
#include "server/write_queue.h"

namespace nabla {

struct ReasonerServiceOptions {
  std::string version;              // shown by GetInfo
  int max_new_tokens_limit = 4096;  // what a request may ask for
  int max_rollouts_limit = 1024;
};

class ReasonerService final : public v1::Reasoner::WithRawCallbackMethod_Reason<
                                  v1::Reasoner::WithCallbackMethod_GetInfo<v1::Reasoner::Service>>,
                              private ReasonCallHost {
 public:
  ReasonerService(ReasonerServiceOptions options, Authenticator* authenticator, Metrics* metrics, LogSink log);

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Reason(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* bytes) override;
  grpc::ServerUnaryReactor* GetInfo(grpc::CallbackServerContext* context, const v1::GetInfoRequest* request,
                                    v1::GetInfoResponse* response) override;

  // Takes requests from now on. At most once.
  void Serve(EnginePool* pool);
  void StartDraining();

  // Blocks until no Reason call is open, at most until `deadline`; false: some still are.
  bool AwaitIdle(absl::Time deadline);

 private:
  Metrics& metrics() override { return *metrics_; }
  WriteQueue& writers() override { return writers_; }
  absl::Duration RetryDelay() override;
  void OnCallEnded(const RequestRecord& record) override;

  // The pool to use, or why there is none.
  absl::StatusOr<EnginePool*> Pool();
  absl::StatusOr<ReasonRequest> Read(const grpc::ByteBuffer& bytes, const EnginePool& pool, const Caller& caller,
                                     v1::ReasonRequest* message) const;

  const ReasonerServiceOptions options_;
  Authenticator* const authenticator_;
  Metrics* const metrics_;
  const LogSink log_;

  std::mutex mu_;
  std::condition_variable call_ended_;
  EnginePool* pool_ ABSL_GUARDED_BY(mu_) = nullptr;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  int open_calls_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Duration recent_duration_ ABSL_GUARDED_BY(mu_);  // of requests on an engine, a moving average

  WriteQueue writers_;  // the first to go: it may hold the last reference to an ended call
};

}  // namespace nabla

#endif  // NABLA_SERVER_REASONER_SERVICE_H_
