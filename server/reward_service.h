// nabla.v1.RewardModel over a RewardModel of this process.
//
//   RewardService service({.version = "0.1.0"}, &metrics);
//   builder.RegisterService(&service);                // calls get UNAVAILABLE
//   service.Serve({.model = model.get(), .fingerprint = fingerprint, .embedding = table});
//   service.StartDraining();                          // new calls get UNAVAILABLE
//   service.AwaitIdle(absl::Now() + absl::Seconds(30));
//
// A call that failed is a line in the log, with the trace that it belongs to.
//
// Thread-safe; handlers never block: calls that compute go through a bounded queue to threads of the service's own,
// where the model merges the passes of those that run at once. Expired and cancelled calls never start. The model and
// the metrics must outlive the service, the service its gRPC server.
#ifndef NABLA_SERVER_REWARD_SERVICE_H_
#define NABLA_SERVER_REWARD_SERVICE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/stop_token.h"
#include "engine/reward/embedding_table.h"
#include "engine/reward/reward_model.h"
#include "nabla/v1/reward.grpc.pb.h"
#include "server/authenticator.h"
#include "server/call_queue.h"
#include "server/log.h"
#include "server/reward_context_cache.h"
#include "server/reward_metrics.h"

namespace nabla {

struct ServedRewardModel {
  const RewardModel* model = nullptr;
  std::string fingerprint;  // of what decides the model's numbers
  EmbeddingTable embedding;
};

struct RewardServiceOptions {
  std::string version;                     // shown by GetInfo
  Authenticator* authenticator = nullptr;  // null: everybody may call
  LogSink log = LogToStderr();
  CallQueue::Options calls;
  RewardContextCache::Options contexts;
  size_t embedding_chunk_bytes = 1 << 20;  // of one message of FetchEmbedding
  size_t max_log_prob_bytes = 4 << 20;     // of one ScoreGradient; a single row may be larger
};

class RewardService final : public v1::RewardModel::CallbackService {
 public:
  RewardService(RewardServiceOptions options, RewardMetrics* metrics);

  // Answers calls from now on. At most once.
  void Serve(const ServedRewardModel& served);

  grpc::ServerUnaryReactor* GetInfo(grpc::CallbackServerContext* context, const v1::GetRewardInfoRequest* request,
                                    v1::GetRewardInfoResponse* response) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context, const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) override;
  grpc::ServerUnaryReactor* ScoreGradient(grpc::CallbackServerContext* context, const v1::ScoreGradientRequest* request,
                                          v1::ScoreGradientResponse* response) override;
  grpc::ServerWriteReactor<v1::EmbeddingChunk>* FetchEmbedding(grpc::CallbackServerContext* context,
                                                               const v1::FetchEmbeddingRequest* request) override;

  void StartDraining();

  const CallQueue& calls() const { return queue_; }

  // Blocks until no call is open, at most until `deadline`; false: some still are.
  bool AwaitIdle(absl::Time deadline);

 private:
  struct CallRecord;
  class Call;
  class EmbeddingCall;
  using Lease = RewardContextCache::Lease;

  // Counts a call in; an error is what the call has to answer: UNAVAILABLE while loading or draining.
  absl::Status CountIn();
  // The same, then what its token says. What Serve sets may be read once this or CountIn has returned OK.
  absl::StatusOr<Caller> Admit(const grpc::CallbackServerContext& context);
  void OnCallEnded(const CallRecord& record);
  // Runs `answer` on a thread of the queue and finishes the call with what it returns.
  grpc::ServerUnaryReactor* Queue(const char* method, grpc::CallbackServerContext* context,
                                  std::function<absl::Status(const StopToken&)> answer);

  absl::Status CheckFingerprints(const v1::Fingerprints& fingerprints) const;
  absl::Status CheckConversation(const v1::Conversation& conversation) const;
  absl::Status CheckResponse(const v1::Response& response, const std::string& field, uint32_t max_tokens) const;
  absl::Status CheckGradientRequest(const v1::ScoreGradientRequest& request) const;
  absl::Status AnswerScore(const v1::ScoreRequest& request, const StopToken& stop, v1::ScoreResponse* response);
  absl::Status AnswerScoreGradient(const v1::ScoreGradientRequest& request, const StopToken& stop,
                                   v1::ScoreGradientResponse* response);
  // On a context of that conversation; once more on a fresh one where memory ran out and idle ones could give way.
  absl::Status WithContext(const v1::Conversation& conversation, const StopToken& stop,
                           const std::function<absl::Status(Lease&)>& work, v1::ModelWork* run);

  const RewardServiceOptions options_;
  RewardMetrics* const metrics_;

  // Set by Serve, before the first call is admitted.
  const RewardModel* model_ = nullptr;
  EmbeddingTable embedding_;
  std::vector<std::string> token_strings_;
  v1::Fingerprints fingerprints_;
  std::unique_ptr<RewardContextCache> contexts_;

  std::mutex mu_;
  std::condition_variable call_ended_;
  bool serving_ ABSL_GUARDED_BY(mu_) = false;
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  int open_calls_ ABSL_GUARDED_BY(mu_) = 0;

  CallQueue queue_;  // last: its threads use the rest
};

}  // namespace nabla

#endif  // NABLA_SERVER_REWARD_SERVICE_H_
