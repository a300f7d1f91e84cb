// C++ client of the Reasoner service for many requests at once: a call costs no thread, events and the end come by
// callback.
//
//   NABLA_ASSIGN_OR_RETURN(auto client, AsyncReasonerClient::Create("127.0.0.1:50051"));
//   client->Reason(request, {}, [](const v1::ReasonEvent& event) { … },
//                  [](absl::StatusOr<v1::Finished> finished) { … });
//
// Thread-safe; all calls share one connection. Nothing blocks but the destructor, which cancels what is open and waits
// for its end. Callbacks run on gRPC's threads, those of one call one after the other; they must not block, must not
// destroy the client, and may start further calls.
#ifndef NABLA_CLIENT_ASYNC_REASONER_CLIENT_H_
#define NABLA_CLIENT_ASYNC_REASONER_CLIENT_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "client/call.h"
#include "client/channel.h"
#include "nabla/v1/reasoner.grpc.pb.h"

namespace nabla {

class AsyncReasonerClient {
 public:
  using EventCallback = std::function<void(const v1::ReasonEvent&)>;
  using DoneCallback = std::function<void(absl::StatusOr<v1::Finished>)>;

  // Does not connect: a server that is not there shows as UNAVAILABLE from the first call. INVALID_ARGUMENT as Connect
  // says. An address alone is "host:port" without TLS.
  static absl::StatusOr<std::unique_ptr<AsyncReasonerClient>> Create(const ChannelOptions& options);
  static absl::StatusOr<std::unique_ptr<AsyncReasonerClient>> Create(const std::string& address) {
    return Create(ChannelOptions{.address = address});
  }

  ~AsyncReasonerClient();
  AsyncReasonerClient(const AsyncReasonerClient&) = delete;
  AsyncReasonerClient& operator=(const AsyncReasonerClient&) = delete;

  // `on_event` (may be empty) sees every event as it arrives. `on_done` is called exactly once, last, with what
  // ReasonerClient::Reason would return.
  void Reason(v1::ReasonRequest request, const CallOptions& options, EventCallback on_event, DoneCallback on_done);

 private:
  class Call;

  explicit AsyncReasonerClient(Connection connection)
      : stub_(v1::Reasoner::NewStub(connection.channel)), authorization_(std::move(connection.authorization)) {}

  void OnCallEnded();

  const std::unique_ptr<v1::Reasoner::Stub> stub_;
  const std::string authorization_;
  CancelHandle stop_;
  std::mutex mu_;
  std::condition_variable call_ended_;
  size_t open_calls_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace nabla

#endif  // NABLA_CLIENT_ASYNC_REASONER_CLIENT_H_
