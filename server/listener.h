// An open gRPC port: services of ours, health (grpc.health.v1, Check and Watch) and reflection, in the clear or by TLS.
//
//   NABLA_ASSIGN_OR_RETURN(auto listener, Listener::Create({.port = 50051, .log = log}, {&service}));
//   listener->SetServing(v1::Reasoner::service_full_name(), true);
//   listener->Shutdown(absl::Now() + absl::Seconds(5));
//
// Two kinds of health: "" is SERVING as long as the process can answer (liveness); a service's full name is what its
// owner says with SetServing (readiness), NOT_FOUND until it has said something. The services must outlive the
// listener. Thread-safe. Create returns once the port is open; Shutdown blocks until the last call has ended.
#ifndef NABLA_SERVER_LISTENER_H_
#define NABLA_SERVER_LISTENER_H_

#include <grpcpp/server.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/log.h"
#include "server/tls.h"

namespace nabla {

constexpr absl::Duration kMaxConnectionAge = absl::Seconds(2147483);  // the most that gRPC's milliseconds can hold

struct ListenerOptions {
  std::string host = "127.0.0.1";  // address or name to listen on; "0.0.0.0" for all IPv4 interfaces, "::" for all
  int port = 0;                    // 0: any free one, see Listener::port()
  TlsOptions tls;                  // no certificate: in the clear
  int max_receive_message_bytes = 4 << 20;               // a larger request gets RESOURCE_EXHAUSTED
  int max_concurrent_streams = 1000;                     // of one connection; more wait in the client
  absl::Duration keepalive_time = absl::Seconds(60);     // without a word from the client for so long, it is pinged
  absl::Duration keepalive_timeout = absl::Seconds(20);  // and dropped if it does not answer within this
  absl::Duration min_client_ping_interval = absl::Seconds(10);  // a client that pings more often is dropped
  // Then clients connect anew, perhaps elsewhere; up to kMaxConnectionAge, or infinite.
  absl::Duration max_connection_age = absl::InfiniteDuration();
  LogSink log = LogToStderr();
};

// What a server that stops gives statuses to go out to clients that read.
inline constexpr absl::Duration kFlushGrace = absl::Seconds(1);
// How long it refuses calls behind its last answer: whoever got that may ask again at once, and a call that arrives
// while gRPC closes its port is reset, CANCELLED, rather than told to go elsewhere.
inline constexpr absl::Duration kLastRefusals = absl::Milliseconds(100);

class Listener {
 public:
  // INVALID_ARGUMENT naming the flag for TLS files that cannot be used, UNAVAILABLE naming it where the port is taken
  // or the host is none of ours.
  static absl::StatusOr<std::unique_ptr<Listener>> Create(const ListenerOptions& options,
                                                          const std::vector<grpc::Service*>& services);

  ~Listener();  // as Shutdown with no time left
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  int port() const { return port_; }

  void SetServing(const std::string& service_name, bool serving);

  // Takes no new calls, waits for those open until `deadline`, cancels the rest. Idempotent.
  void Shutdown(absl::Time deadline);

  // The same for services that refuse every call by now: lets them do so for kLastRefusals, and the statuses go out,
  // but takes no longer than `timeout` for either.
  void ShutdownBehindRefusals(absl::Duration timeout);

 private:
  Listener() = default;

  std::shared_ptr<grpc::ServerCredentials> credentials_;  // outlive the server, which calls them back
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

// "host:port" as one writes it in an address; puts brackets around IPv6.
std::string HostPort(const std::string& host, int port);

// Whether only this machine can reach a listener on that host: "localhost", or an address of 127.0.0.0/8 or ::1.
bool IsLoopback(absl::string_view host);

// Logs what is open on a host that others can reach: access, where neither tokens nor client certificates are asked
// for, or what is sent, without TLS.
void WarnIfOpenToEverybody(const ListenerOptions& options, bool needs_token);

// UNAVAILABLE: what to say where a port cannot be opened. `flag` is the one that chooses the port.
absl::Status CannotListen(const std::string& address, absl::string_view flag);

}  // namespace nabla

#endif  // NABLA_SERVER_LISTENER_H_
