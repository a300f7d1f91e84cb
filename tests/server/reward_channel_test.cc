#include "server/reward_channel.h"

#include <gtest/gtest.h>

namespace nabla {
namespace {

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
