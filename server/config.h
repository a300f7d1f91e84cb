// What a server is started from, read out of its settings and checked.
//
//   NABLA_ASSIGN_OR_RETURN(ServerSetup setup, ReadSetup(settings));
//   NABLA_RETURN_IF_ERROR(settings.Locate(CheckFiles(setup)));
//
// Pure functions but for CheckFiles, which looks at the disk.
#ifndef NABLA_SERVER_CONFIG_H_
#define NABLA_SERVER_CONFIG_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/pool/engine_pool.h"
#include "server/log.h"
#include "server/server.h"
#include "server/settings.h"

namespace nabla {

// How to reach the reward model behind nabla-reward-server.
struct RemoteRewardOptions {
  std::string address;               // as ParseRewardAddress takes it
  std::string tls_ca_file;           // PEM authorities of the servers; empty: in the clear
  std::string tls_certificate_file;  // PEM certificate and key to show to them; empty: none
  std::string tls_key_file;
  std::string tls_server_name;                          // in the servers' certificate; empty: the host of the address
  std::string token_file;                               // holds the bearer token; empty: none
  absl::Duration connect_timeout = absl::Seconds(120);  // how long the start waits for a replica to be ready
  absl::Duration call_timeout = absl::Seconds(30);      // of one call, its retries included
  int max_attempts = 4;                                 // of one call, the first included
  bool bfloat16_gradients = false;                      // half the bytes, not the bits of a model in this process
};

struct ServerSetup {
  EnginePoolOptions pool;
  std::optional<RemoteRewardOptions> remote_reward;  // never with pool.reward_model
  ServerOptions server;
};

// INVALID_ARGUMENT naming the setting, also for one that would have no effect.
absl::StatusOr<ServerSetup> ReadSetup(Settings& settings);

// What can be known of the files without loading models: they are there, certificates fit their keys, tokens are right.
absl::Status CheckFiles(const ServerSetup& setup);

}  // namespace nabla

#endif  // NABLA_SERVER_CONFIG_H_
