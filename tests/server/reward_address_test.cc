#include "server/reward_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nabla {
namespace {

using ::testing::ElementsAre;

std::string Error(const std::string& address) { return std::string(ParseRewardAddress(address).status().message()); }

TEST(RewardAddressTest, BecomesAGrpcTarget) {
  EXPECT_EQ(ParseRewardAddress("10.0.0.1:50052")->target, "ipv4:10.0.0.1:50052");
  EXPECT_EQ(ParseRewardAddress("10.0.0.1:50052,10.0.0.2:50053")->target, "ipv4:10.0.0.1:50052,10.0.0.2:50053");
  EXPECT_EQ(ParseRewardAddress("[::1]:1,[::1]:2")->target, "ipv6:[::1]:1,[::1]:2");
  EXPECT_EQ(ParseRewardAddress("reward.default.svc:50052")->target, "dns:///reward.default.svc:50052");
}

TEST(RewardAddressTest, HostsHaveNeitherPortsNorBrackets) {
  EXPECT_THAT(ParseRewardAddress("10.0.0.1:1,10.0.0.2:2")->hosts, ElementsAre("10.0.0.1", "10.0.0.2"));
  EXPECT_THAT(ParseRewardAddress("[::1]:1")->hosts, ElementsAre("::1"));
  EXPECT_THAT(ParseRewardAddress("localhost:1")->hosts, ElementsAre("localhost"));
}

TEST(RewardAddressTest, WhatIsNoAddressIsRefused) {
  for (const std::string address : {"", "reward", ":1", "reward:0", "reward:65536", "reward:x", "10.0.0.1:1,", "::1:1",
                                    "[::1]", "[]:1", "[reward]:1", "[10.0.0.1]:1", "a:b:1"}) {
    EXPECT_EQ(Error(address),
              "--reward_address: must be host:port, or a list of them with commas between; IPv6 hosts take brackets, "
              "got \"" +
                  address + "\"");
  }
  EXPECT_EQ(Error("a:1,b:1"),
            "--reward_address: a list takes IP addresses; for names, give the one name that stands for all replicas, "
            "got \"a:1,b:1\"");
  EXPECT_EQ(Error("10.0.0.1:1,[::1]:1"),
            "--reward_address: a list takes IPv4 or IPv6 addresses, not both, got \"10.0.0.1:1,[::1]:1\"");
}

}  // namespace
}  // namespace nabla
