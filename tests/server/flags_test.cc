#include "server/flags.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"

ABSL_DECLARE_FLAG(std::string, model);
ABSL_DECLARE_FLAG(std::string, dtype);
ABSL_DECLARE_FLAG(std::string, device);
ABSL_DECLARE_FLAG(std::string, reward_model);
ABSL_DECLARE_FLAG(std::string, reward_kind);
ABSL_DECLARE_FLAG(std::string, verdict_yes);
ABSL_DECLARE_FLAG(std::string, host);
ABSL_DECLARE_FLAG(int, port);
ABSL_DECLARE_FLAG(int, metrics_port);
ABSL_DECLARE_FLAG(int, workers);
ABSL_DECLARE_FLAG(int, max_rollouts_limit);
ABSL_DECLARE_FLAG(absl::Duration, drain_timeout);

namespace nabla {
namespace {

class FlagsTest : public testing::Test {
 protected:
  FlagsTest() { absl::SetFlag(&FLAGS_model, "writer"); }

  static std::string Error() { return std::string(ReadFlags().status().message()); }

  absl::FlagSaver saver_;
};

TEST_F(FlagsTest, DefaultsAreUsable) {
  const absl::StatusOr<CommandLine> command_line = ReadFlags();
  ASSERT_TRUE(command_line.ok()) << command_line.status();
  EXPECT_EQ(command_line->pool.model.path, "writer");
  EXPECT_FALSE(command_line->pool.reward_model.has_value());
  EXPECT_EQ(command_line->server.host, "127.0.0.1");
  EXPECT_EQ(command_line->server.port, 50051);
}

TEST_F(FlagsTest, LimitsReachPoolAndServer) {
  absl::SetFlag(&FLAGS_max_rollouts_limit, 3);
  const absl::StatusOr<CommandLine> command_line = ReadFlags();
  ASSERT_TRUE(command_line.ok()) << command_line.status();
  EXPECT_EQ(command_line->pool.max_rollouts_limit, 3);
  EXPECT_EQ(command_line->server.max_rollouts_limit, 3);
}

TEST_F(FlagsTest, TheModelIsRequired) {
  absl::SetFlag(&FLAGS_model, "");
  EXPECT_EQ(Error(), "--model: must name the folder of a language model, for example --model=models/writer");
}

TEST_F(FlagsTest, ChoicesAreNamed) {
  absl::SetFlag(&FLAGS_dtype, "int8");
  EXPECT_EQ(Error(), "--dtype: must be auto, float32 or bfloat16, got \"int8\"");
}

TEST_F(FlagsTest, DevicesAreChecked) {
  absl::SetFlag(&FLAGS_device, "cuda:1");
  EXPECT_EQ(Error(), "");
  absl::SetFlag(&FLAGS_device, "cuda:x");
  EXPECT_EQ(Error(), "--device: must be auto, cpu or cuda:N, got \"cuda:x\"");
}

TEST_F(FlagsTest, RangesAreChecked) {
  absl::SetFlag(&FLAGS_workers, -1);
  EXPECT_EQ(Error(), "--workers: must be 0 to 1024, got -1");
}

TEST_F(FlagsTest, PortsAreChecked) {
  absl::SetFlag(&FLAGS_port, 65536);
  EXPECT_EQ(Error(), "--port: must be 0 to 65535, got 65536");
  absl::SetFlag(&FLAGS_port, 9464);
  absl::SetFlag(&FLAGS_metrics_port, 9464);
  EXPECT_EQ(Error(), "--metrics_port: must differ from --port, got 9464 for both");
  absl::SetFlag(&FLAGS_metrics_port, -2);
  EXPECT_EQ(Error(), "--metrics_port: must be -1 to 65535, got -2");
}

TEST_F(FlagsTest, AFlagWithoutEffectIsAnError) {
  absl::SetFlag(&FLAGS_reward_kind, "verdict");
  EXPECT_EQ(Error(), "--reward_kind: has no effect without --reward_model");
  absl::SetFlag(&FLAGS_reward_model, "judge");
  const absl::StatusOr<CommandLine> command_line = ReadFlags();
  ASSERT_TRUE(command_line.ok()) << command_line.status();
  EXPECT_EQ(command_line->pool.reward_model->kind, "verdict");
}

TEST_F(FlagsTest, VerdictWordsNeedAVerdict) {
  absl::SetFlag(&FLAGS_verdict_yes, "Right");
  EXPECT_EQ(Error(), "--verdict_yes: has no effect without --reward_model");
  absl::SetFlag(&FLAGS_reward_model, "judge");
  EXPECT_EQ(Error(), "--verdict_yes: has no effect without --reward_kind=verdict");
  absl::SetFlag(&FLAGS_reward_kind, "verdict");
  const absl::StatusOr<CommandLine> command_line = ReadFlags();
  ASSERT_TRUE(command_line.ok()) << command_line.status();
  EXPECT_EQ(command_line->pool.reward_model->verdict_yes, "Right");
  absl::SetFlag(&FLAGS_verdict_yes, "");
  EXPECT_EQ(Error(), "--verdict_yes: must not be empty");
}

TEST_F(FlagsTest, HostAndDrainTimeoutAreChecked) {
  absl::SetFlag(&FLAGS_host, "");
  EXPECT_EQ(Error(), "--host: must not be empty; 127.0.0.1 is this machine alone");
  absl::SetFlag(&FLAGS_host, "127.0.0.1");
  absl::SetFlag(&FLAGS_drain_timeout, absl::Seconds(-1));
  EXPECT_EQ(Error(), "--drain_timeout: must not be negative, got -1s");
}

}  // namespace
}  // namespace nabla
