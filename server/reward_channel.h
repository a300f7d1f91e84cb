// A channel to the replicas of a reward service, with everything that gRPC itself brings to stand up to their failures:
// round-robin balancing over those that say they are healthy, keep-alive pings, retries with back-off and a budget.
//
//   NABLA_ASSIGN_OR_RETURN(auto channel, CreateRewardChannel({.address = "10.0.0.1:50052,10.0.0.2:50052"}));
//
// The TLS files are looked at every second: new ones are used from the next connection on. Thread-safe; does not
// connect yet and does not block but to read the certificates.
#ifndef NABLA_SERVER_REWARD_CHANNEL_H_
#define NABLA_SERVER_REWARD_CHANNEL_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace nabla {

struct RewardChannelOptions {
  std::string address;               // as ParseRewardAddress takes it
  std::string tls_ca_file;           // PEM: whom to trust; empty: in the clear
  std::string tls_certificate_file;  // PEM: what to show where the service asks for it
  std::string tls_key_file;          // PEM: its private key
  std::string tls_server_name;       // the name in the service's certificate; empty: that of `address`
  int max_attempts = 4;              // of one call, the first included; 1 … 5
  absl::Duration first_backoff = absl::Milliseconds(100);  // doubles, at random up to a fifth more or less
  absl::Duration max_backoff = absl::Seconds(1);
  // Together well below a call's timeout, so that a call to a replica that is frozen or cut off fails in time to be
  // tried on another.
  absl::Duration keepalive_time = absl::Seconds(15);    // without a word from a replica for so long, it is pinged
  absl::Duration keepalive_timeout = absl::Seconds(5);  // and dropped if it does not answer within this
  absl::Duration max_reconnect_backoff = absl::Seconds(1);
  int max_message_bytes = 256 << 20;  // of an answer: a gradient of 16384 tokens × 4096 numbers
};

// INVALID_ARGUMENT "--reward_address: what is wrong", "remote_reward.tls_key_file: …".
absl::StatusOr<std::shared_ptr<grpc::Channel>> CreateRewardChannel(const RewardChannelOptions& options);

}  // namespace nabla

#endif  // NABLA_SERVER_REWARD_CHANNEL_H_
