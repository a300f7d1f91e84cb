// Calls to a reward service: deadlines, cancellation, circuit breaking, and errors in the words of their cause.
//
//   NABLA_ASSIGN_OR_RETURN(auto client, RewardClient::Create({.channel = {.address = "reward:50052"}}));
//   v1::ScoreResponse response;
//   NABLA_RETURN_IF_ERROR(client->Score(request, &response, stop));
//
// Thread-safe. Calls block until they are answered, their stop token says stop, or their time is up. What the service
// itself says comes through with its code and message; that it cannot be reached is UNAVAILABLE.
#ifndef NABLA_SERVER_REWARD_CLIENT_H_
#define NABLA_SERVER_REWARD_CLIENT_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/stop_token.h"
#include "nabla/v1/reward.grpc.pb.h"
#include "server/circuit_breaker.h"
#include "server/reward_channel.h"
#include "server/trace_context.h"

namespace nabla {

struct RewardClientOptions {
  RewardChannelOptions channel;
  std::string token_file;                               // holds the bearer token to show; read for every call
  absl::Duration connect_timeout = absl::Seconds(120);  // for the first answer, at start
  absl::Duration embedding_timeout = absl::Minutes(10);
  absl::Duration call_timeout = absl::Seconds(30);  // of one call, its retries included
  CircuitBreaker::Options breaker;
  // After every call that was made, not those that the breaker kept back, with the code that its caller sees, retries
  // behind it; thread-safe, must not block.
  std::function<void(absl::StatusCode)> on_rpc;
};

class RewardClient {
 public:
  // INVALID_ARGUMENT naming the flag. Does not connect.
  static absl::StatusOr<std::unique_ptr<RewardClient>> Create(RewardClientOptions options);

  // Waits for the service to come up, connecting anew as often as it takes, for connect_timeout at most, or until
  // `stop`, if not null, says stop.
  absl::Status GetInfo(const v1::GetRewardInfoRequest& request, v1::GetRewardInfoResponse* response,
                       const StopToken* stop);

  // On behalf of a request, if it has a `stop` token (else null) and a `trace`, in which every call is a span of its
  // own.
  absl::Status Score(const v1::ScoreRequest& request, v1::ScoreResponse* response, const StopToken* stop,
                     const std::optional<TraceContext>& trace);
  absl::Status ScoreGradient(const v1::ScoreGradientRequest& request, v1::ScoreGradientResponse* response,
                             const StopToken* stop, const std::optional<TraceContext>& trace);

  // Calls `take` with every chunk in order, on threads of gRPC's; an error of its, or of `stop`, if not null, ends the
  // call.
  using TakeChunk = std::function<absl::Status(v1::EmbeddingChunk)>;
  absl::Status FetchEmbedding(const v1::FetchEmbeddingRequest& request, const TakeChunk& take, const StopToken* stop);

  const std::string& address() const { return options_.channel.address; }

 private:
  using Done = std::function<void(grpc::Status)>;
  using Start = std::function<void(grpc::ClientContext*, Done)>;

  RewardClient(RewardClientOptions options, const std::shared_ptr<grpc::Channel>& channel);

  absl::Status Authorize(grpc::ClientContext* context) const;
  // Starts one call and waits for its end; it is cancelled once it is time to stop, and `stopped` then says why.
  static grpc::Status Await(grpc::ClientContext* context, absl::Duration timeout, const Start& start,
                            const StopToken* stop, absl::Status* stopped);
  // One call of a request's.
  absl::Status Call(const Start& start, const StopToken* stop, const std::optional<TraceContext>& trace);
  absl::Status ToAbsl(const grpc::Status& status, const std::string& no_answer) const;
  absl::Status BreakerOpen() const;
  void Count(const absl::Status& status) const;

  const RewardClientOptions options_;
  const std::unique_ptr<v1::RewardModel::Stub> stub_;
  CircuitBreaker breaker_;
};

}  // namespace nabla

#endif  // NABLA_SERVER_REWARD_CLIENT_H_
