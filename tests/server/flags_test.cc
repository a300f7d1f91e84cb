// Flags, the config file under them, and what is wrong with either.
#include "server/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/config.h"
#include "tests/server/test_certificates.h"

namespace nabla {
namespace {

class FlagsTest : public testing::Test {
 protected:
  FlagsTest() { Flag("model", "writer"); }

  // As on the command line.
  static void Flag(const std::string& name, const std::string& value) {
    std::string error;
    EXPECT_TRUE(absl::FindCommandLineFlag(name)->ParseFrom(value, &error)) << error;
  }

  void Config(const std::string& text) {
    config_ = folder_.Write("server.textproto", text);
    Flag("config", config_);
  }

  static absl::StatusOr<ServerSetup> ReadAll() {
    absl::StatusOr<Settings> settings = ReadFlags(ServerProgram());
    if (!settings.ok()) return settings.status();
    return ReadSetup(*settings);
  }

  // Empty where nothing is wrong; the config file is called FILE.
  std::string Error() {
    std::string message(ReadAll().status().message());
    const size_t at = config_.empty() ? std::string::npos : message.find(config_);
    return at == std::string::npos ? message : message.replace(at, config_.size(), "FILE");
  }

  const TestFolder folder_;
  std::string config_;
  absl::FlagSaver saver_;
};

TEST_F(FlagsTest, DefaultsAreUsable) {
  const absl::StatusOr<ServerSetup> setup = ReadAll();
  ASSERT_TRUE(setup.ok()) << setup.status();
  EXPECT_EQ(setup->pool.model.path, "writer");
  EXPECT_FALSE(setup->pool.reward_model.has_value());
  EXPECT_FALSE(setup->remote_reward.has_value());
  EXPECT_EQ(setup->pool.kv_cache_bytes, int64_t{1} << 30);
  EXPECT_EQ(setup->pool.max_batch_tokens, 128);
  EXPECT_EQ(setup->server.listener.host, "127.0.0.1");
  EXPECT_EQ(setup->server.listener.port, 50051);
  EXPECT_EQ(setup->server.metrics_port, 9464);
  EXPECT_EQ(setup->server.drain_timeout, absl::Seconds(30));
}

TEST_F(FlagsTest, EveryFlagReachesItsOption) {
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"dtype", "bfloat16"},
                                                                                    {"max_model_length", "100"},
                                                                                    {"draft_model", "small"},
                                                                                    {"draft_dtype", "float32"},
                                                                                    {"guard_models", "first,second"},
                                                                                    {"reward_model", "judge"},
                                                                                    {"reward_kind", "verdict"},
                                                                                    {"reward_dtype", "float32"},
                                                                                    {"reward_max_length", "101"},
                                                                                    {"verdict_question", "Right?"},
                                                                                    {"verdict_yes", "Ja"},
                                                                                    {"verdict_no", "Nein"},
                                                                                    {"devices", "cpu,cuda:1"},
                                                                                    {"kv_cache_bytes", "512MiB"},
                                                                                    {"max_running_requests", "3"},
                                                                                    {"threads", "4"},
                                                                                    {"max_batch_tokens", "5"},
                                                                                    {"gradient_weights", "model"},
                                                                                    {"max_draft_tokens", "11"},
                                                                                    {"draft_weights", "none"},
                                                                                    {"max_queued_requests", "6"},
                                                                                    {"max_queued_tokens", "7"},
                                                                                    {"max_new_tokens_limit", "8"},
                                                                                    {"max_rollouts_limit", "9"},
                                                                                    {"host", "localhost"},
                                                                                    {"port", "1000"},
                                                                                    {"tls_certificate", "c"},
                                                                                    {"tls_key", "k"},
                                                                                    {"tls_client_ca", "a"},
                                                                                    {"auth_tokens", "t"},
                                                                                    {"metrics_port", "1001"},
                                                                                    {"log_format", "json"},
                                                                                    {"drain_timeout", "1m"}}) {
    Flag(name, value);
  }
  const absl::StatusOr<ServerSetup> setup = ReadAll();
  ASSERT_TRUE(setup.ok()) << setup.status();
  const EnginePoolOptions& pool = setup->pool;
  EXPECT_EQ(pool.model.dtype, "bfloat16");
  EXPECT_EQ(pool.model.max_length, 100);
  EXPECT_EQ(pool.draft_model->path, "small");
  EXPECT_EQ(pool.draft_model->dtype, "float32");
  ASSERT_EQ(pool.guard_models.size(), 2u);
  EXPECT_EQ(pool.guard_models[1].path, "second");
  EXPECT_EQ(pool.reward_model->path, "judge");
  EXPECT_EQ(pool.reward_model->kind, "verdict");
  EXPECT_EQ(pool.reward_model->dtype, "float32");
  EXPECT_EQ(pool.reward_model->max_length, 101);
  EXPECT_EQ(pool.reward_model->verdict_question, "Right?");
  EXPECT_EQ(pool.reward_model->verdict_yes, "Ja");
  EXPECT_EQ(pool.reward_model->verdict_no, "Nein");
  EXPECT_THAT(pool.devices, testing::ElementsAre("cpu", "cuda:1"));
  EXPECT_EQ(pool.kv_cache_bytes, 512 << 20);
  EXPECT_EQ(pool.max_running_requests, 3);
  EXPECT_EQ(pool.threads, 4);
  EXPECT_EQ(pool.max_batch_tokens, 5);
  EXPECT_EQ(pool.gradient_weights, "model");
  EXPECT_EQ(pool.max_draft_tokens, 11);
  EXPECT_EQ(pool.draft_weights, "none");
  EXPECT_EQ(pool.max_queued_requests, 6);
  EXPECT_EQ(pool.max_queued_tokens, 7);
  EXPECT_EQ(pool.max_new_tokens_limit, 8);
  EXPECT_EQ(pool.max_rollouts_limit, 9);
  EXPECT_EQ(setup->server.max_new_tokens_limit, 8);
  EXPECT_EQ(setup->server.max_rollouts_limit, 9);
  EXPECT_EQ(setup->server.listener.host, "localhost");
  EXPECT_EQ(setup->server.listener.port, 1000);
  EXPECT_EQ(setup->server.listener.tls.certificate_file, "c");
  EXPECT_EQ(setup->server.listener.tls.key_file, "k");
  EXPECT_EQ(setup->server.listener.tls.client_ca_file, "a");
  EXPECT_EQ(setup->server.auth_tokens_file, "t");
  EXPECT_EQ(setup->server.metrics_port, 1001);
  EXPECT_EQ(setup->server.drain_timeout, absl::Minutes(1));
}

TEST_F(FlagsTest, FlagsOverrideTheFileEvenWithTheDefault) {
  Config(R"(model { path: 'other' dtype: 'bfloat16' }
engine { devices: 'cuda:0' devices: 'cuda:1' max_batch_tokens: 9 }
listener { port: 6000 max_concurrent_streams: 7 }
drain_timeout_seconds: 2.5)");
  Flag("port", "50051");
  Flag("devices", "cpu");
  const absl::StatusOr<ServerSetup> setup = ReadAll();
  ASSERT_TRUE(setup.ok()) << setup.status();
  EXPECT_EQ(setup->pool.model.path, "writer");
  EXPECT_EQ(setup->pool.model.dtype, "bfloat16");
  EXPECT_THAT(setup->pool.devices, testing::ElementsAre("cpu"));
  EXPECT_EQ(setup->pool.max_batch_tokens, 9);
  EXPECT_EQ(setup->server.listener.port, 50051);
  EXPECT_EQ(setup->server.listener.max_concurrent_streams, 7);
  EXPECT_EQ(setup->server.drain_timeout, absl::Milliseconds(2500));
}

TEST_F(FlagsTest, ErrorsOfTheFileNameLineAndField) {
  Config("listener {\n  port: 70000\n}");
  EXPECT_EQ(Error(), "FILE:2:3: listener.port: must be 0 to 65535, got 70000");
  Flag("port", "0");
  EXPECT_EQ(Error(), "");
  Flag("port", "70001");
  EXPECT_EQ(Error(), "--port: must be 0 to 65535, got 70001");
}

TEST_F(FlagsTest, AFileThatIsNoConfigIsAnError) {
  Config("listener {\n  prot: 1\n}");
  EXPECT_EQ(Error(), "FILE:2:7: Message type \"nabla.v1.ListenerConfig\" has no field named \"prot\".");
  Config("listener { port: 'x' }");
  EXPECT_EQ(Error(), "FILE:1:18: Expected integer, got: 'x'");
  Flag("config", folder_.path() + "/missing");
  EXPECT_EQ(Error(), absl::StrCat("--config: cannot read ", folder_.path(), "/missing: No such file or directory"));
}

TEST_F(FlagsTest, TheModelIsRequired) {
  Flag("model", "");
  EXPECT_EQ(Error(), "--model: must not be empty");
}

TEST_F(FlagsTest, ChoicesAreNamed) {
  Flag("dtype", "int8");
  EXPECT_EQ(Error(), "--dtype: must be auto, float32 or bfloat16, got \"int8\"");
}

TEST_F(FlagsTest, DevicesAreChecked) {
  Flag("devices", "cpu,cuda:x");
  EXPECT_EQ(Error(), "--devices: must be auto, cpu or cuda:N, got \"cuda:x\"");
  Flag("devices", "auto,cpu");
  EXPECT_EQ(Error(), "--devices: auto must stand alone");
  Flag("devices", "");
  EXPECT_EQ(Error(), "--devices: must name at least one, and none that is empty");
  Flag("devices", "cuda:0");
  Flag("threads", "2");
  EXPECT_EQ(Error(), "--threads: has no effect without an engine on the CPU");
}

TEST_F(FlagsTest, DraftWeightsWithoutDraftsAreAMistake) {
  Flag("draft_weights", "int8");
  Flag("max_draft_tokens", "0");
  EXPECT_EQ(Error(), "--draft_weights: has no effect with --max_draft_tokens=0");
}

TEST_F(FlagsTest, Int8RolloutsAreForCpus) {
  Flag("rollout_weights", "int4");
  EXPECT_EQ(Error(), "--rollout_weights: must be model or int8, got \"int4\"");
  Flag("rollout_weights", "int8");
  EXPECT_EQ(ReadAll()->pool.rollout_weights, "int8");
  Flag("draft_weights", "int8");
  EXPECT_EQ(Error(),
            "--draft_weights: int8 would guess what --rollout_weights=int8 says by itself; leave one of them out");
  Flag("draft_weights", "auto");
  Flag("devices", "cpu,cuda:0");
  EXPECT_EQ(Error(), "--rollout_weights: int8 needs engines on the CPU alone; set --devices=cpu or leave it out");
}

TEST_F(FlagsTest, BytesHaveUnits) {
  for (const auto& [text, bytes] : std::vector<std::pair<std::string, int64_t>>{
           {"1048576", 1 << 20}, {"2048KiB", 2 << 20}, {"3GiB", int64_t{3} << 30}}) {
    Flag("kv_cache_bytes", text);
    EXPECT_EQ(ReadAll()->pool.kv_cache_bytes, bytes);
  }
  std::string error;
  for (const char* text : {"1GB", "-1MiB", "9999999TiB", ""}) {
    EXPECT_FALSE(absl::FindCommandLineFlag("kv_cache_bytes")->ParseFrom(text, &error));
    EXPECT_THAT(error, testing::HasSubstr("must be a number of bytes, or one with KiB, MiB, GiB or TiB"));
  }
  Flag("kv_cache_bytes", "1");
  EXPECT_EQ(Error(), "--kv_cache_bytes: must be 1048576 to 17592186044416, got 1");
}

TEST_F(FlagsTest, PortsAreChecked) {
  Flag("port", "9464");
  EXPECT_EQ(Error(), "--metrics_port: must differ from --port, got 9464 for both");
  Flag("metrics_port", "-2");
  EXPECT_EQ(Error(), "--metrics_port: must be -1 to 65535, got -2");
  Flag("metrics_port", "-1");
  EXPECT_EQ(Error(), "");
  Config("metrics { host: '127.0.0.1' }");
  EXPECT_EQ(Error(), "FILE:1:11: metrics.host: has no effect with --metrics_port=-1");
}

TEST_F(FlagsTest, ARewardModelThatIsNotThereHasNoSettings) {
  Flag("reward_kind", "verdict");
  EXPECT_EQ(Error(), "--reward_kind: has no effect without --reward_model");
  Flag("reward_model", "judge");
  EXPECT_EQ(Error(), "");
}

TEST_F(FlagsTest, VerdictWordsNeedAVerdict) {
  Flag("verdict_yes", "Right");
  EXPECT_EQ(Error(), "--verdict_yes: has no effect without --reward_model");
  Flag("reward_model", "judge");
  EXPECT_EQ(Error(), "--verdict_yes: has no effect without --reward_kind=verdict");
  Flag("reward_kind", "verdict");
  EXPECT_EQ(Error(), "");
  Flag("verdict_yes", "");
  EXPECT_EQ(Error(), "--verdict_yes: must not be empty");
}

TEST_F(FlagsTest, ARemoteRewardModelIsReadFromFlagsAndFile) {
  Config(
      "remote_reward { timeout_seconds: 2 connect_timeout_seconds: 300 max_attempts: 3 tls_server_name: 'judge.test' "
      "tls_certificate_file: 'c' "
      "tls_key_file: 'k' }");
  Flag("reward_address", "10.0.0.1:50052,10.0.0.2:50052");
  Flag("reward_tls_ca", "ca");
  Flag("reward_token_file", "token");
  const absl::StatusOr<ServerSetup> setup = ReadAll();
  ASSERT_TRUE(setup.ok()) << setup.status();
  EXPECT_FALSE(setup->pool.reward_model.has_value());
  ASSERT_TRUE(setup->remote_reward.has_value());
  EXPECT_EQ(setup->remote_reward->address, "10.0.0.1:50052,10.0.0.2:50052");
  EXPECT_EQ(setup->remote_reward->tls_ca_file, "ca");
  EXPECT_EQ(setup->remote_reward->tls_certificate_file, "c");
  EXPECT_EQ(setup->remote_reward->tls_key_file, "k");
  EXPECT_EQ(setup->remote_reward->tls_server_name, "judge.test");
  EXPECT_EQ(setup->remote_reward->token_file, "token");
  EXPECT_EQ(setup->remote_reward->connect_timeout, absl::Minutes(5));
  EXPECT_EQ(setup->remote_reward->call_timeout, absl::Seconds(2));
  EXPECT_EQ(setup->remote_reward->max_attempts, 3);
  EXPECT_FALSE(setup->remote_reward->bfloat16_gradients);
  Flag("reward_gradients", "bfloat16");
  EXPECT_TRUE(ReadAll()->remote_reward->bfloat16_gradients);
}

TEST_F(FlagsTest, TheStartWaitsTwoMinutesForTheRewardService) {
  Flag("reward_address", "judge:50052");
  EXPECT_EQ(ReadAll()->remote_reward->connect_timeout, absl::Minutes(2));
  Config("remote_reward { connect_timeout_seconds: 0 }");
  EXPECT_EQ(Error(), "FILE:1:17: remote_reward.connect_timeout_seconds: must be 0.001 to 86400 seconds, got 0");
}

TEST_F(FlagsTest, RewardAddressesThatCannotWorkAreErrors) {
  Flag("reward_address", "judge-0:50052,judge-1:50052");
  EXPECT_EQ(Error(),
            "--reward_address: a list takes IP addresses; for names, give the one name that stands for all replicas, "
            "got \"judge-0:50052,judge-1:50052\"");
  Flag("reward_address", "<not given>");
  Config("remote_reward { addresses: '10.0.0.1:1' addresses: '[::1]:1' }");
  EXPECT_EQ(Error(),
            "FILE:1:17: remote_reward.addresses: a list takes IPv4 or IPv6 addresses, not both, got "
            "\"10.0.0.1:1,[::1]:1\"");
}

TEST_F(FlagsTest, MistakesAboutARemoteRewardModelAreErrors) {
  Flag("reward_token_file", "token");
  EXPECT_EQ(Error(), "--reward_token_file: has no effect without --reward_address");
  Flag("reward_address", "judge");
  EXPECT_EQ(Error(),
            "--reward_address: must be host:port, or a list of them with commas between; IPv6 hosts take brackets, got "
            "\"judge\"");
  Flag("reward_address", "judge:50052");
  EXPECT_EQ(Error(), "--reward_token_file: would be sent in the clear; set --reward_tls_ca");
  Flag("reward_address", "127.0.0.1:50052");
  EXPECT_EQ(Error(), "");
  Config("remote_reward { tls_key_file: 'k' }");
  EXPECT_EQ(Error(), "FILE:1:17: remote_reward.tls_key_file: has no effect without --reward_tls_ca");
  Flag("reward_tls_ca", "ca");
  EXPECT_EQ(Error(),
            "FILE:1:17: remote_reward.tls_key_file: needs the other of remote_reward.tls_certificate_file and "
            "remote_reward.tls_key_file");
  Flag("reward_model", "judge");
  EXPECT_EQ(Error(), "--reward_address: has no effect with --reward_model; give one of the two");
}

TEST_F(FlagsTest, AConnectionsAgeIsNoLongerThanGrpcCanCount) {
  Config("listener { max_connection_age_seconds: 2147483 }");
  EXPECT_EQ(ReadAll()->server.listener.max_connection_age, kMaxConnectionAge);
  Config("listener { max_connection_age_seconds: inf }");
  EXPECT_EQ(ReadAll()->server.listener.max_connection_age, absl::InfiniteDuration());
  Config("listener { max_connection_age_seconds: 2147484 }");
  EXPECT_EQ(Error(),
            "FILE:1:12: listener.max_connection_age_seconds: must be 1 to 2147483 seconds or inf, got 2147484");
}

TEST_F(FlagsTest, HostAndDrainTimeoutAreChecked) {
  Flag("host", "");
  EXPECT_EQ(Error(), "--host: must not be empty");
  Flag("host", "127.0.0.1");
  Flag("drain_timeout", "-1s");
  EXPECT_EQ(Error(), "--drain_timeout: must be 0 to 86400 seconds, got -1");
}

TEST_F(FlagsTest, FilesAreCheckedWithoutLoadingModels) {
  const auto error = [] {
    absl::StatusOr<Settings> settings = ReadFlags(ServerProgram());
    const absl::StatusOr<ServerSetup> setup = ReadSetup(*settings);
    return std::string(settings->Locate(CheckFiles(*setup)).message());
  };
  const std::string writer = folder_.path();
  Flag("model", writer);
  EXPECT_EQ(error(), absl::StrCat("--model: cannot read ", writer, "/config.json: No such file or directory"));
  folder_.Write("config.json", "{}");
  folder_.Write("tokenizer.json", "{}");
  EXPECT_EQ(error(), "");
  Config(absl::StrCat("listener { tls { certificate_file: '", writer, "/c' key_file: 'k' } }"));
  EXPECT_EQ(error(), absl::StrCat(config_, ":1:18: listener.tls.certificate_file: cannot read ", writer,
                                  "/c: No such file or directory"));
  Config("listener { auth_tokens_file: '/dev/null' }");
  EXPECT_EQ(error(), absl::StrCat(config_,
                                  ":1:12: listener.auth_tokens_file: /dev/null holds no tokens; nobody could "
                                  "call, and without the file everybody can"));
}

TEST_F(FlagsTest, HyphensAreUnderscoresInNames) {
  std::string program = "nabla-server";
  std::string check = "--check-config";
  std::string key = "--tls-key=my-key";
  std::string value = "a-b";
  std::vector<char*> arguments = {program.data(), check.data(), key.data(), value.data()};
  SetUpFlags(ServerProgram(), static_cast<int>(arguments.size()), arguments.data());
  EXPECT_EQ(check, "--check_config");
  EXPECT_EQ(key, "--tls_key=my-key");
  EXPECT_EQ(value, "a-b");
}

TEST_F(FlagsTest, HelpNamesEveryFlagAndItsField) {
  std::string program = "nabla-server";
  std::string help = "--help";
  std::vector<char*> arguments = {program.data(), help.data()};
  testing::internal::CaptureStdout();
  EXPECT_TRUE(PrintHelpIfAsked(ServerProgram(), 2, arguments.data()));
  const std::string text = testing::internal::GetCapturedStdout();
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (absl::EndsWith(flag->Filename(), "server/flags.cc") || absl::EndsWith(flag->Filename(), "server/program.cc")) {
      EXPECT_THAT(text, testing::HasSubstr(absl::StrCat("  --", name))) << "every flag is in the help";
    }
  }
  EXPECT_THAT(text, testing::HasSubstr(absl::StrCat(
                        "Tokens of one forward pass. Default: ", EnginePoolOptions().max_batch_tokens, ".\n")));
  EXPECT_THAT(text, testing::HasSubstr("  --port  (listener.port)\n      gRPC port; 0 picks a free one"));
  EXPECT_FALSE(PrintHelpIfAsked(ServerProgram(), 1, arguments.data()));
}

}  // namespace
}  // namespace nabla
