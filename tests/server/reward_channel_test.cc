#include "server/reward_channel.h"

#include <gtest/gtest.h>

namespace nabla {
namespace {

TEST(RewardChannelTest, AddressesBecomeGrpcTargets) {
  EXPECT_EQ(RewardTarget("10.0.0.1:50052").value(), "ipv4:10.0.0.1:50052");
  EXPECT_EQ(RewardTarget("10.0.0.1:50052,10.0.0.2:50053").value(), "ipv4:10.0.0.1:50052,10.0.0.2:50053");
  EXPECT_EQ(RewardTarget("[::1]:1,[::1]:2").value(), "ipv6:[::1]:1,[::1]:2");
  EXPECT_EQ(RewardTarget("reward.default.svc:50052").value(), "dns:///reward.default.svc:50052");
}

TEST(RewardChannelTest, AddressesThatAreNoneAreRefused) {
  const auto error = [](const std::string& address) { return std::string(RewardTarget(address).status().message()); };
  for (const std::string address : {"", "reward", ":1", "reward:0", "reward:65536", "reward:x", "10.0.0.1:1,"}) {
    EXPECT_EQ(error(address),
              "--reward_address: must be host:port, or a list of them with commas between, got \"" + address + "\"");
  }
  EXPECT_EQ(error("a:1,b:1"),
            "--reward_address: a list takes IP addresses; for names, give the one name that stands for all replicas, "
            "got \"a:1,b:1\"");
  EXPECT_EQ(error("10.0.0.1:1,[::1]:1"),
            "--reward_address: a list takes IPv4 or IPv6 addresses, not both, got \"10.0.0.1:1,[::1]:1\"");
}

TEST(RewardChannelTest, TlsFilesMustGoTogether) {
  const auto error = [](RewardChannelOptions options) {
    options.address = "127.0.0.1:1";
    return std::string(CreateRewardChannel(options).status().message());
  };
  EXPECT_EQ(error({.tls_certificate_file = "a"}),
            "remote_reward.tls_certificate_file: has no effect without --reward_tls_ca");
  EXPECT_EQ(error({.tls_server_name = "a"}), "remote_reward.tls_server_name: has no effect without --reward_tls_ca");
  EXPECT_EQ(error({.tls_ca_file = "a", .tls_key_file = "b"}),
            "remote_reward.tls_key_file: has no effect without remote_reward.tls_certificate_file");
  EXPECT_EQ(error({.tls_ca_file = "a", .tls_certificate_file = "b"}),
            "remote_reward.tls_certificate_file: needs its private key; give it with remote_reward.tls_key_file");
  EXPECT_EQ(error({.tls_ca_file = "no/such/file"}),
            "--reward_tls_ca: cannot read no/such/file: No such file or directory");
  EXPECT_EQ(error({.max_attempts = 6}), "remote_reward.max_attempts: must be 1 … 5, got 6");
}

}  // namespace
}  // namespace nabla
