// nabla.v1.Reasoner over an EnginePool: reads and checks a request, gives it an id, hands it to a ReasonCall.
//
//   ReasonerService service(pool.get(), {.version = "0.1.0"}, &metrics, LogToStderr());
//   builder.RegisterService(&service);
//   service.StartDraining();                          // new requests get UNAVAILABLE
//   service.AwaitIdle(absl::Now() + absl::Seconds(30));
//
// Thread-safe; handlers never block. The pool and the metrics must outlive the service, the service its gRPC server.
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
#include "server/log.h"
#include "server/metrics.h"
#include "server/request_record.h"

namespace nabla {

struct ReasonerServiceOptions {
  std::string version;              // shown by GetInfo
  int max_new_tokens_limit = 4096;  // what a request may ask for
  int max_rollouts_limit = 1024;
};

class ReasonerService final : public v1::Reasoner::WithRawCallbackMethod_Reason<
                                  v1::Reasoner::WithCallbackMethod_GetInfo<v1::Reasoner::Service>> {
 public:
  ReasonerService(EnginePool* pool, ReasonerServiceOptions options, Metrics* metrics, LogSink log);

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Reason(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* bytes) override;
  grpc::ServerUnaryReactor* GetInfo(grpc::CallbackServerContext* context, const v1::GetInfoRequest* request,
                                    v1::GetInfoResponse* response) override;

  void StartDraining();

  // Blocks until no Reason call is open, at most until `deadline`; false: some still are.
  bool AwaitIdle(absl::Time deadline);

 private:
  void OnCallEnded(const RequestRecord& record);

  EnginePool* const pool_;
  const ReasonerServiceOptions options_;
  Metrics* const metrics_;
  const LogSink log_;

  std::mutex mu_;
  std::condition_variable call_ended_;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  int open_calls_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace nabla

#endif  // NABLA_SERVER_REASONER_SERVICE_H_
