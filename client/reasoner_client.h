// C++ client of the Reasoner service: one blocking call a request, events by callback.
//
//   NABLA_ASSIGN_OR_RETURN(auto client, ReasonerClient::Create("127.0.0.1:50051"));
//   auto finished = client->Reason(request, [](const v1::ReasonEvent& event) { … });
//   if (finished.ok()) std::cout << finished->text();
//
// Thread-safe; calls of several threads share one connection. Create does not connect: a server that is not there shows
// as UNAVAILABLE from the first call. Reason blocks until the stream has ended and calls back on the caller's thread.
#ifndef NABLA_CLIENT_REASONER_CLIENT_H_
#define NABLA_CLIENT_REASONER_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "client/call.h"
#include "client/channel.h"
#include "nabla/v1/reasoner.grpc.pb.h"

namespace nabla {

class ReasonerClient {
 public:
  using EventCallback = std::function<void(const v1::ReasonEvent&)>;

  // INVALID_ARGUMENT as Connect says. An address alone is "host:port" without TLS.
  static absl::StatusOr<std::unique_ptr<ReasonerClient>> Create(const ChannelOptions& options);
  static absl::StatusOr<std::unique_ptr<ReasonerClient>> Create(const std::string& address) {
    return Create(ChannelOptions{.address = address});
  }

  // The Finished event, after `on_event` (may be empty) has seen all events, it included. Else the server's status,
  // with the bytes of its google.rpc.Status as payload; DATA_LOSS where a stream ends well without a Finished event.
  absl::StatusOr<v1::Finished> Reason(const v1::ReasonRequest& request, const EventCallback& on_event,
                                      const CallOptions& options = {});

  absl::StatusOr<v1::GetInfoResponse> GetInfo(const CallOptions& options = {});

 private:
  explicit ReasonerClient(Connection connection)
      : stub_(v1::Reasoner::NewStub(connection.channel)), authorization_(std::move(connection.authorization)) {}

  const std::unique_ptr<v1::Reasoner::Stub> stub_;
  const std::string authorization_;
};

}  // namespace nabla

#endif  // NABLA_CLIENT_REASONER_CLIENT_H_
