// Flags of nabla-reward-server, the config file under them, and what is wrong with either.
#include "server/reward_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/reward_config.h"
#include "tests/server/test_certificates.h"

namespace nabla {
namespace {

class RewardFlagsTest : public testing::Test {
 protected:
  RewardFlagsTest() { Flag("model", "judge"); }

  // As on the command line.
  static void Flag(const std::string& name, const std::string& value) {
    std::string error;
    EXPECT_TRUE(absl::FindCommandLineFlag(name)->ParseFrom(value, &error)) << error;
  }

  void Config(const std::string& text) {
    config_ = folder_.Write("reward.textproto", text);
    Flag("config", config_);
  }

  static absl::StatusOr<RewardServerSetup> ReadAll() {
    absl::StatusOr<Settings> settings = ReadFlags(RewardServerProgram());
    if (!settings.ok()) return settings.status();
    return ReadRewardSetup(*settings);
  }

  // Empty where nothing is wrong; the config file is called FILE.
  std::string Error() { return WithoutPath(ReadAll().status()); }
  std::string FileError() {
    absl::StatusOr<Settings> settings = ReadFlags(RewardServerProgram());
    return WithoutPath(settings->Locate(CheckFiles(*ReadRewardSetup(*settings))));
  }

  std::string WithoutPath(const absl::Status& status) const {
    std::string message(status.message());
    const size_t at = config_.empty() ? std::string::npos : message.find(config_);
    return at == std::string::npos ? message : message.replace(at, config_.size(), "FILE");
  }

  const TestFolder folder_;
  std::string config_;
  absl::FlagSaver saver_;
};

TEST_F(RewardFlagsTest, DefaultsAreUsable) {
  const absl::StatusOr<RewardServerSetup> setup = ReadAll();
  ASSERT_TRUE(setup.ok()) << setup.status();
  EXPECT_EQ(setup->engine.model.path, "judge");
  EXPECT_EQ(setup->engine.model.kind, "auto");
  EXPECT_EQ(setup->engine.device, "auto");
  EXPECT_EQ(setup->engine.kv_cache_bytes, int64_t{1} << 30);
  EXPECT_EQ(setup->engine.threads, 0);
  EXPECT_EQ(setup->engine.max_batch_tokens, 128);
  EXPECT_EQ(setup->server.calls.threads, 64);
  EXPECT_EQ(setup->server.calls.max_waiting, 256);
  EXPECT_EQ(setup->server.contexts.max_idle, 64);
  EXPECT_EQ(setup->server.listener.host, "127.0.0.1");
  EXPECT_EQ(setup->server.listener.port, 50052);
  EXPECT_EQ(setup->server.listener.max_connection_age, absl::Minutes(5));
  EXPECT_EQ(setup->server.metrics_port, 9465);
  EXPECT_EQ(setup->server.drain_timeout, absl::Seconds(30));
  EXPECT_NE(setup->server.version, "");
}

TEST_F(RewardFlagsTest, EveryFlagReachesItsOption) {
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"kind", "verdict"},
                                                                                    {"dtype", "bfloat16"},
                                                                                    {"device", "cpu"},
                                                                                    {"max_model_length", "100"},
                                                                                    {"verdict_question", "Right?"},
                                                                                    {"verdict_yes", "Ja"},
                                                                                    {"verdict_no", "Nein"},
                                                                                    {"kv_cache_bytes", "512MiB"},
                                                                                    {"threads", "4"},
                                                                                    {"max_batch_tokens", "5"},
                                                                                    {"gradient_weights", "model"},
                                                                                    {"max_concurrent_calls", "6"},
                                                                                    {"max_waiting_calls", "7"},
                                                                                    {"max_idle_contexts", "8"},
                                                                                    {"host", "localhost"},
                                                                                    {"port", "1000"},
                                                                                    {"tls_certificate", "c"},
                                                                                    {"tls_key", "k"},
                                                                                    {"tls_client_ca", "a"},
                                                                                    {"auth_tokens", "t"},
                                                                                    {"max_connection_age", "9s"},
                                                                                    {"metrics_port", "1001"},
                                                                                    {"log_format", "json"},
                                                                                    {"drain_timeout", "1m"}}) {
    Flag(name, value);
  }
  const absl::StatusOr<RewardServerSetup> setup = ReadAll();
  ASSERT_TRUE(setup.ok()) << setup.status();
  const RewardEngineOptions& engine = setup->engine;
  EXPECT_EQ(engine.model.kind, "verdict");
  EXPECT_EQ(engine.model.dtype, "bfloat16");
  EXPECT_EQ(engine.model.max_length, 100);
  EXPECT_EQ(engine.model.verdict_question, "Right?");
  EXPECT_EQ(engine.model.verdict_yes, "Ja");
  EXPECT_EQ(engine.model.verdict_no, "Nein");
  EXPECT_EQ(engine.device, "cpu");
  EXPECT_EQ(engine.kv_cache_bytes, 512 << 20);
  EXPECT_EQ(engine.threads, 4);
  EXPECT_EQ(engine.max_batch_tokens, 5);
  EXPECT_EQ(engine.gradient_weights, "model");
  EXPECT_EQ(setup->server.calls.threads, 6);
  EXPECT_EQ(setup->server.calls.max_waiting, 7);
  EXPECT_EQ(setup->server.contexts.max_idle, 8);
  EXPECT_EQ(setup->server.listener.host, "localhost");
  EXPECT_EQ(setup->server.listener.port, 1000);
  EXPECT_EQ(setup->server.listener.tls.certificate_file, "c");
  EXPECT_EQ(setup->server.listener.tls.key_file, "k");
  EXPECT_EQ(setup->server.listener.tls.client_ca_file, "a");
  EXPECT_EQ(setup->server.listener.max_connection_age, absl::Seconds(9));
  EXPECT_EQ(setup->server.auth_tokens_file, "t");
  EXPECT_EQ(setup->server.metrics_port, 1001);
  EXPECT_EQ(setup->server.drain_timeout, absl::Minutes(1));
}

TEST_F(RewardFlagsTest, EveryFieldWithoutAFlagReachesItsOption) {
  Config(R"(listener { max_receive_message_bytes: 2048 max_concurrent_streams: 7
keepalive_time_seconds: 8 keepalive_timeout_seconds: 9 }
metrics { host: '127.0.0.2' })");
  const absl::StatusOr<RewardServerSetup> setup = ReadAll();
  ASSERT_TRUE(setup.ok()) << setup.status();
  EXPECT_EQ(setup->server.listener.max_receive_message_bytes, 2048);
  EXPECT_EQ(setup->server.listener.max_concurrent_streams, 7);
  EXPECT_EQ(setup->server.listener.keepalive_time, absl::Seconds(8));
  EXPECT_EQ(setup->server.listener.keepalive_timeout, absl::Seconds(9));
  EXPECT_EQ(setup->server.metrics_host, "127.0.0.2");
}

TEST_F(RewardFlagsTest, FlagsOverrideTheFileEvenWithTheDefault) {
  Config(R"(reward_model { path: 'other' kind: 'likelihood' }
engine { device: 'cpu' max_batch_tokens: 9 }
calls { max_concurrent: 3 max_idle_contexts: 0 }
listener { port: 6000 max_connection_age_seconds: 60 }
drain_timeout_seconds: 2.5)");
  Flag("port", "50052");
  Flag("max_connection_age", "inf");
  const absl::StatusOr<RewardServerSetup> setup = ReadAll();
  ASSERT_TRUE(setup.ok()) << setup.status();
  EXPECT_EQ(setup->engine.model.path, "judge");
  EXPECT_EQ(setup->engine.model.kind, "likelihood");
  EXPECT_EQ(setup->engine.device, "cpu");
  EXPECT_EQ(setup->engine.max_batch_tokens, 9);
  EXPECT_EQ(setup->server.calls.threads, 3);
  EXPECT_EQ(setup->server.contexts.max_idle, 0);
  EXPECT_EQ(setup->server.listener.port, 50052);
  EXPECT_EQ(setup->server.listener.max_connection_age, absl::InfiniteDuration());
  EXPECT_EQ(setup->server.drain_timeout, absl::Milliseconds(2500));
}

TEST_F(RewardFlagsTest, ErrorsOfTheFileNameLineAndField) {
  Config("calls {\n  max_concurrent: 0\n}");
  EXPECT_EQ(Error(), "FILE:2:3: calls.max_concurrent: must be 1 to 4096, got 0");
  Flag("max_concurrent_calls", "1");
  EXPECT_EQ(Error(), "");
  Flag("max_concurrent_calls", "4097");
  EXPECT_EQ(Error(), "--max_concurrent_calls: must be 1 to 4096, got 4097");
}

TEST_F(RewardFlagsTest, AFileOfTheOtherServerIsAnError) {
  Config("model { path: 'writer' }");
  EXPECT_EQ(Error(), "FILE:1:7: Message type \"nabla.v1.RewardServerConfig\" has no field named \"model\".");
}

TEST_F(RewardFlagsTest, TheModelIsRequired) {
  Flag("model", "<not given>");
  EXPECT_EQ(Error(), "--model: must name the folder of a reward model, for example --model=models/judge");
  Flag("model", "");
  EXPECT_EQ(Error(), "--model: must not be empty");
  Flag("model", "<not given>");
  Config("reward_model { path: '' }");
  EXPECT_EQ(Error(), "FILE:1:16: reward_model.path: must not be empty");
}

TEST_F(RewardFlagsTest, ChoicesAreNamed) {
  Flag("kind", "critic");
  EXPECT_EQ(Error(), "--kind: must be auto, classifier, likelihood or verdict, got \"critic\"");
  Flag("kind", "auto");
  Flag("dtype", "int8");
  EXPECT_EQ(Error(), "--dtype: must be auto, float32 or bfloat16, got \"int8\"");
  Flag("dtype", "auto");
  Flag("log_format", "xml");
  EXPECT_EQ(Error(), "--log_format: must be logfmt or json, got \"xml\"");
}

TEST_F(RewardFlagsTest, TheDeviceIsChecked) {
  Config("engine { device: 'cuda:x' }");
  EXPECT_EQ(Error(), "FILE:1:10: engine.device: must be auto, cpu or cuda:N, got \"cuda:x\"");
  Flag("device", "cuda:1");
  Flag("threads", "2");
  EXPECT_EQ(Error(), "--threads: has no effect with --device=cuda:1");
}

TEST_F(RewardFlagsTest, VerdictWordsNeedAVerdict) {
  Config("reward_model { verdict_yes: 'Right' }");
  EXPECT_EQ(Error(), "FILE:1:16: reward_model.verdict_yes: has no effect without --kind=verdict");
  Flag("kind", "verdict");
  EXPECT_EQ(Error(), "");
  Flag("verdict_yes", "");
  EXPECT_EQ(Error(), "--verdict_yes: must not be empty");
}

TEST_F(RewardFlagsTest, PortsAreChecked) {
  Flag("port", "9465");
  EXPECT_EQ(Error(), "--metrics_port: must differ from --port, got 9465 for both");
  Flag("metrics_port", "-1");
  EXPECT_EQ(Error(), "");
  Config("metrics { host: '127.0.0.1' }");
  EXPECT_EQ(Error(), "FILE:1:11: metrics.host: has no effect with --metrics_port=-1");
}

TEST_F(RewardFlagsTest, AConnectionsAgeIsNoLongerThanGrpcCanCount) {
  Flag("max_connection_age", "2147483s");
  EXPECT_EQ(ReadAll()->server.listener.max_connection_age, kMaxConnectionAge);
  Flag("max_connection_age", "2147484s");
  EXPECT_EQ(Error(), "--max_connection_age: must be 1 to 2147483 seconds or inf, got 2147484");
}

TEST_F(RewardFlagsTest, HostAndDrainTimeoutAreChecked) {
  Flag("host", "");
  EXPECT_EQ(Error(), "--host: must not be empty");
  Flag("host", "127.0.0.1");
  Flag("drain_timeout", "-1s");
  EXPECT_EQ(Error(), "--drain_timeout: must be 0 to 86400 seconds, got -1");
}

TEST_F(RewardFlagsTest, FilesAreCheckedWithoutLoadingTheModel) {
  const std::string folder = folder_.path();
  Flag("model", "<not given>");
  Config(absl::StrCat("reward_model { path: '", folder, "' }"));
  EXPECT_EQ(FileError(), absl::StrCat("FILE:1:16: reward_model.path: cannot read ", folder,
                                      "/config.json: No such file or directory"));
  folder_.Write("config.json", "{}");
  folder_.Write("tokenizer.json", "{}");
  EXPECT_EQ(FileError(), "");
  Flag("tls_key", "k");
  EXPECT_EQ(FileError(), "--tls_key: has no effect without --tls_certificate");
}

TEST_F(RewardFlagsTest, HelpNamesEveryFlagAndItsField) {
  std::string program = "nabla-reward-server";
  std::string help = "--help";
  std::vector<char*> arguments = {program.data(), help.data()};
  testing::internal::CaptureStdout();
  EXPECT_TRUE(PrintHelpIfAsked(RewardServerProgram(), 2, arguments.data()));
  const std::string text = testing::internal::GetCapturedStdout();
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (absl::EndsWith(flag->Filename(), "server/reward_flags.cc") ||
        absl::EndsWith(flag->Filename(), "server/program.cc")) {
      EXPECT_THAT(text, testing::HasSubstr(absl::StrCat("  --", name))) << "every flag is in the help";
    }
  }
  EXPECT_THAT(text, testing::HasSubstr("The config file is a RewardServerConfig (proto/nabla/v1/config.proto)"));
  EXPECT_THAT(text, testing::HasSubstr("  --port  (listener.port)\n      gRPC port; 0 picks a free one"));
}

}  // namespace
}  // namespace nabla
