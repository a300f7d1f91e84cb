#include "server/reward_flags.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"

ABSL_FLAG(std::string, model, "", "Folder of the reward model in Hugging Face layout. Required.");
ABSL_FLAG(std::string, kind, "auto", "Kind of reward: classifier, likelihood, verdict or auto (from its config.json).");
ABSL_FLAG(std::string, dtype, "auto", "Number type: float32, bfloat16 or auto (what config.json says).");
ABSL_FLAG(std::string, device, "auto", "cpu, cuda:N or auto (CUDA where there is one).");
ABSL_FLAG(int, max_model_length, 0,
          "Tokens of conversation and response together; 0: the model's own limit, at most 8192.");
ABSL_FLAG(std::string, verdict_question, "Is the answer above correct? Reply with Yes or No.",
          "What a verdict asks behind the answer.");
ABSL_FLAG(std::string, verdict_yes, "Yes", "The word of a verdict that speaks for the answer.");
ABSL_FLAG(std::string, verdict_no, "No", "The word of a verdict that speaks against the answer.");
ABSL_FLAG(int64_t, kv_cache_bytes, int64_t{1} << 30, "Memory for keys and values.");
ABSL_FLAG(int, threads, 0, "Threads of the model on a CPU; 0: the cores, or fewer for a small model.");
ABSL_FLAG(int, max_batch_tokens, 128, "Rows of one forward pass, of all calls that share it.");
ABSL_FLAG(int, max_concurrent_calls, 64, "Calls that run at once; each has a thread.");
ABSL_FLAG(int, max_waiting_calls, 256, "Calls that may wait for a thread; more get RESOURCE_EXHAUSTED.");
ABSL_FLAG(int, max_idle_contexts, 64, "Conversations kept open between calls.");
ABSL_FLAG(std::string, host, "127.0.0.1",
          "Address to listen on; 0.0.0.0 lets other machines in, so set --tls_certificate and --auth_tokens, too.");
ABSL_FLAG(int, port, 50052, "gRPC port; 0 picks a free one and prints it.");
ABSL_FLAG(std::string, tls_certificate, "",
          "PEM file of the server's certificate and those that lead to its authority; read again when it changes.");
ABSL_FLAG(std::string, tls_key, "", "PEM file of its private key; read again when it changes.");
ABSL_FLAG(std::string, tls_client_ca, "",
          "PEM file of the authorities of clients, who must show a certificate then (mutual TLS).");
ABSL_FLAG(std::string, auth_tokens, "",
          "File of bearer tokens and their limits, an AuthTokens in text format; read again when it changes.");
ABSL_FLAG(absl::Duration, max_connection_age, absl::Minutes(5),
          "Clients connect anew after this, and so find replicas that have joined; up to 2147483s, or inf for no "
          "limit.");
ABSL_FLAG(int, metrics_port, 9465,
          "Port of the Prometheus metrics, under /metrics; 0 picks a free one, -1 turns them off.");
ABSL_FLAG(std::string, log_format, "logfmt", "Format of the log on stderr: logfmt or json.");
ABSL_FLAG(absl::Duration, drain_timeout, absl::Seconds(30),
          "How long SIGTERM or SIGINT lets calls finish before they are stopped.");

namespace nabla {
namespace {

constexpr int kMaxCount = 1 << 20;

absl::Status CheckRange(absl::string_view flag, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": must be ", least, " to ", most, ", got ", value));
}

absl::Status CheckOneOf(absl::string_view flag, absl::string_view value,
                        const std::vector<absl::string_view>& choices) {
  for (const absl::string_view choice : choices) {
    if (value == choice) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": must be ",
                                                 absl::StrJoin(choices.begin(), choices.end() - 1, ", "), " or ",
                                                 choices.back(), ", got \"", value, "\""));
}

// Whether a flag says something else than its default.
bool IsChanged(absl::string_view name) {
  const absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
  return flag->CurrentValue() != flag->DefaultValue();
}

absl::Status ReadModelFlags(RewardModelOptions* options) {
  options->path = absl::GetFlag(FLAGS_model);
  if (options->path.empty()) {
    return absl::InvalidArgumentError(
        "--model: must name the folder of a reward model, for example --model=models/judge");
  }
  options->kind = absl::GetFlag(FLAGS_kind);
  options->dtype = absl::GetFlag(FLAGS_dtype);
  options->max_length = absl::GetFlag(FLAGS_max_model_length);
  NABLA_RETURN_IF_ERROR(CheckOneOf("kind", options->kind, {"auto", "classifier", "likelihood", "verdict"}));
  NABLA_RETURN_IF_ERROR(CheckOneOf("dtype", options->dtype, {"auto", "float32", "bfloat16"}));
  NABLA_RETURN_IF_ERROR(CheckRange("max_model_length", options->max_length, 0, kMaxCount));
  options->verdict_question = absl::GetFlag(FLAGS_verdict_question);
  options->verdict_yes = absl::GetFlag(FLAGS_verdict_yes);
  options->verdict_no = absl::GetFlag(FLAGS_verdict_no);
  for (const auto& [flag, value] :
       {std::pair("verdict_question", &options->verdict_question), std::pair("verdict_yes", &options->verdict_yes),
        std::pair("verdict_no", &options->verdict_no)}) {
    if (value->empty()) return absl::InvalidArgumentError(absl::StrCat("--", flag, ": must not be empty"));
    if (options->kind != "verdict" && IsChanged(flag)) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag, ": has no effect without --kind=verdict"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadEngineFlags(RewardEngineOptions* options) {
  NABLA_RETURN_IF_ERROR(ReadModelFlags(&options->model));
  options->device = absl::GetFlag(FLAGS_device);
  options->kv_cache_bytes = absl::GetFlag(FLAGS_kv_cache_bytes);
  options->threads = absl::GetFlag(FLAGS_threads);
  options->max_batch_tokens = absl::GetFlag(FLAGS_max_batch_tokens);
  int index = 0;
  const bool cuda =
      absl::StartsWith(options->device, "cuda:") && absl::SimpleAtoi(options->device.substr(5), &index) && index >= 0;
  if (options->device != "auto" && options->device != "cpu" && !cuda) {
    return absl::InvalidArgumentError(
        absl::StrCat("--device: must be auto, cpu or cuda:N, got \"", options->device, "\""));
  }
  NABLA_RETURN_IF_ERROR(CheckRange("kv_cache_bytes", options->kv_cache_bytes, 1 << 20, int64_t{1} << 44));
  NABLA_RETURN_IF_ERROR(CheckRange("threads", options->threads, 0, 1024));
  if (cuda && IsChanged("threads")) {
    return absl::InvalidArgumentError(absl::StrCat("--threads: has no effect with --device=", options->device));
  }
  return CheckRange("max_batch_tokens", options->max_batch_tokens, 1, 65536);
}

absl::Status ReadServerFlags(RewardServerOptions* options) {
  ListenerOptions& listener = options->listener;
  listener.host = absl::GetFlag(FLAGS_host);
  listener.port = absl::GetFlag(FLAGS_port);
  listener.tls = {.certificate_file = absl::GetFlag(FLAGS_tls_certificate),
                  .key_file = absl::GetFlag(FLAGS_tls_key),
                  .client_ca_file = absl::GetFlag(FLAGS_tls_client_ca)};
  listener.max_connection_age = absl::GetFlag(FLAGS_max_connection_age);
  options->auth_tokens_file = absl::GetFlag(FLAGS_auth_tokens);
  options->metrics_port = absl::GetFlag(FLAGS_metrics_port);
  options->drain_timeout = absl::GetFlag(FLAGS_drain_timeout);
  options->calls = {.threads = absl::GetFlag(FLAGS_max_concurrent_calls),
                    .max_waiting = absl::GetFlag(FLAGS_max_waiting_calls)};
  options->contexts.max_idle = absl::GetFlag(FLAGS_max_idle_contexts);
  const std::string log_format = absl::GetFlag(FLAGS_log_format);
  NABLA_RETURN_IF_ERROR(CheckOneOf("log_format", log_format, {"logfmt", "json"}));
  listener.log = LogToStderr(log_format == "json" ? LogFormat::kJson : LogFormat::kLogfmt);
  if (listener.host.empty()) {
    return absl::InvalidArgumentError("--host: must not be empty; 127.0.0.1 is this machine alone");
  }
  NABLA_RETURN_IF_ERROR(CheckRange("port", listener.port, 0, 65535));
  NABLA_RETURN_IF_ERROR(CheckRange("metrics_port", options->metrics_port, -1, 65535));
  if (listener.port != 0 && listener.port == options->metrics_port) {
    return absl::InvalidArgumentError(
        absl::StrCat("--metrics_port: must differ from --port, got ", listener.port, " for both"));
  }
  NABLA_RETURN_IF_ERROR(CheckRange("max_concurrent_calls", options->calls.threads, 1, 4096));
  NABLA_RETURN_IF_ERROR(CheckRange("max_waiting_calls", options->calls.max_waiting, 0, kMaxCount));
  NABLA_RETURN_IF_ERROR(CheckRange("max_idle_contexts", options->contexts.max_idle, 0, kMaxCount));
  const absl::Duration age = listener.max_connection_age;
  if (age < absl::Seconds(1) || (age > kMaxConnectionAge && age != absl::InfiniteDuration())) {
    return absl::InvalidArgumentError(absl::StrCat("--max_connection_age: must be 1s to ",
                                                   absl::ToInt64Seconds(kMaxConnectionAge), "s, or inf, got ",
                                                   absl::FormatDuration(age)));
  }
  if (options->drain_timeout < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--drain_timeout: must not be negative, got ", absl::FormatDuration(options->drain_timeout)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RewardCommandLine> ReadRewardFlags() {
  RewardCommandLine command_line;
  NABLA_RETURN_IF_ERROR(ReadEngineFlags(&command_line.engine));
  NABLA_RETURN_IF_ERROR(ReadServerFlags(&command_line.server));
  command_line.server.version = NABLA_VERSION;
  return command_line;
}

void SetUpRewardUsage() {
  absl::SetProgramUsageMessage(
      "serves a reward model to nabla-server over gRPC.\n\n"
      "  nabla-reward-server --model=models/judge\n"
      "  nabla-server --model=models/writer --reward_address=127.0.0.1:50052");
  absl::FlagsUsageConfig config;
  static constexpr auto is_ours = [](absl::string_view file) { return absl::EndsWith(file, "server/reward_flags.cc"); };
  config.contains_help_flags = is_ours;
  config.contains_helpshort_flags = is_ours;
  config.normalize_filename = [](absl::string_view file) {
    return is_ours(file) ? std::string("server/reward_flags.cc") : std::string(file);
  };
  config.version_string = [] { return std::string("nabla-reward-server " NABLA_VERSION "\n"); };
  absl::SetFlagsUsageConfig(config);
}

}  // namespace nabla
