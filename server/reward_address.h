// Where the replicas of a reward service are.
//
//   NABLA_ASSIGN_OR_RETURN(const RewardAddress address, ParseRewardAddress("10.0.0.1:50052,10.0.0.2:50052"));
//   grpc::CreateChannel(address.target, credentials);
//
// A pure function.
#ifndef NABLA_SERVER_REWARD_ADDRESS_H_
#define NABLA_SERVER_REWARD_ADDRESS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace nabla {

struct RewardAddress {
  std::string target;              // for gRPC: "ipv4:10.0.0.1:50052,10.0.0.2:50052", "dns:///reward:50052"
  std::vector<std::string> hosts;  // without ports and brackets
};

// Takes "host:port", where the name may stand for several replicas (each address that DNS gives is one), or several IP
// addresses "10.0.0.1:50052,10.0.0.2:50052", IPv6 ones in brackets. INVALID_ARGUMENT "--reward_address: what is wrong".
absl::StatusOr<RewardAddress> ParseRewardAddress(const std::string& address);

}  // namespace nabla

#endif  // NABLA_SERVER_REWARD_ADDRESS_H_
