#include "server/flags.h"

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
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"

ABSL_FLAG(std::string, model, "", "Folder of the language model in Hugging Face layout. Required.");
ABSL_FLAG(std::string, dtype, "auto",
          "Number type of the language model: float32, bfloat16 or auto (what config.json says).");
ABSL_FLAG(std::string, device, "auto", "Device of the language model: cpu, cuda:N or auto (CUDA where there is one).");
ABSL_FLAG(int, max_model_length, 0, "Tokens of prompt and response together; 0: the model's own limit, at most 8192.");
ABSL_FLAG(std::string, reward_model, "", "Folder of the reward model. Without one the nabla strategy is refused.");
ABSL_FLAG(std::string, reward_kind, "auto",
          "Kind of reward: classifier, likelihood, verdict or auto (from its config.json).");
ABSL_FLAG(std::string, verdict_question, "Is the answer above correct? Reply with Yes or No.",
          "What a verdict asks behind the answer.");
ABSL_FLAG(std::string, verdict_yes, "Yes", "The word of a verdict that speaks for the answer.");
ABSL_FLAG(std::string, verdict_no, "No", "The word of a verdict that speaks against the answer.");
ABSL_FLAG(std::string, reward_dtype, "auto", "As --dtype, for the reward model.");
ABSL_FLAG(std::string, reward_device, "auto", "As --device, for the reward model.");
ABSL_FLAG(int, reward_max_length, 0, "As --max_model_length, for the reward model.");
ABSL_FLAG(std::string, host, "127.0.0.1",
          "Address to listen on; 0.0.0.0 lets other machines in, without authentication.");
ABSL_FLAG(int, port, 50051, "gRPC port; 0 picks a free one and prints it.");
ABSL_FLAG(int, metrics_port, 9464,
          "Port of the Prometheus metrics, under /metrics; 0 picks a free one, -1 turns them off.");
ABSL_FLAG(int, workers, 0, "Requests that run at once; 0: one a core, at most 8.");
ABSL_FLAG(int, threads_per_worker, 0, "Threads of one request's tensor operations; 0: cores / workers.");
ABSL_FLAG(int, max_queued_requests, 256, "Requests that may wait for a worker; more get RESOURCE_EXHAUSTED.");
ABSL_FLAG(int, max_new_tokens_limit, 4096, "Largest max_new_tokens a request may ask for.");
ABSL_FLAG(int, max_rollouts_limit, 1024, "Largest max_rollouts a request may ask for.");
ABSL_FLAG(absl::Duration, drain_timeout, absl::Seconds(30),
          "How long SIGTERM or SIGINT lets running and queued requests finish before they are stopped.");

namespace nabla {
namespace {

absl::Status CheckRange(absl::string_view flag, int value, int least, int most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": must be ", least, " to ", most, ", got ", value));
}

absl::Status CheckOneOf(absl::string_view flag, absl::string_view value,
                        const std::vector<absl::string_view>& choices) {
  std::string list;
  for (size_t i = 0; i < choices.size(); ++i) {
    if (value == choices[i]) return absl::OkStatus();
    absl::StrAppend(&list, i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ", choices[i]);
  }
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": must be ", list, ", got \"", value, "\""));
}

absl::Status CheckDevice(absl::string_view flag, absl::string_view value) {
  int index = 0;
  const bool cuda = absl::StartsWith(value, "cuda:") && absl::SimpleAtoi(value.substr(5), &index) && index >= 0;
  if (value == "auto" || value == "cpu" || cuda) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": must be auto, cpu or cuda:N, got \"", value, "\""));
}

constexpr int kMaxCount = 1 << 20;

// Whether a flag says something else than its default.
bool IsChanged(absl::string_view name) {
  const absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
  return flag->CurrentValue() != flag->DefaultValue();
}

absl::StatusOr<RewardModelOptions> ReadRewardFlags() {
  RewardModelOptions options;
  options.path = absl::GetFlag(FLAGS_reward_model);
  options.kind = absl::GetFlag(FLAGS_reward_kind);
  options.dtype = absl::GetFlag(FLAGS_reward_dtype);
  options.device = absl::GetFlag(FLAGS_reward_device);
  options.max_length = absl::GetFlag(FLAGS_reward_max_length);
  NABLA_RETURN_IF_ERROR(CheckOneOf("reward_kind", options.kind, {"auto", "classifier", "likelihood", "verdict"}));
  const std::pair<const char*, std::string> verdict[] = {{"verdict_question", absl::GetFlag(FLAGS_verdict_question)},
                                                         {"verdict_yes", absl::GetFlag(FLAGS_verdict_yes)},
                                                         {"verdict_no", absl::GetFlag(FLAGS_verdict_no)}};
  for (const auto& [flag, value] : verdict) {
    if (value.empty()) return absl::InvalidArgumentError(absl::StrCat("--", flag, ": must not be empty"));
    if (options.kind != "verdict" && IsChanged(flag)) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag, ": has no effect without --reward_kind=verdict"));
    }
  }
  options.verdict_question = verdict[0].second;
  options.verdict_yes = verdict[1].second;
  options.verdict_no = verdict[2].second;
  NABLA_RETURN_IF_ERROR(CheckOneOf("reward_dtype", options.dtype, {"auto", "float32", "bfloat16"}));
  NABLA_RETURN_IF_ERROR(CheckDevice("reward_device", options.device));
  NABLA_RETURN_IF_ERROR(CheckRange("reward_max_length", options.max_length, 0, kMaxCount));
  return options;
}

// A flag about a reward model that is not there is a mistake.
absl::Status CheckNoRewardFlags() {
  for (const char* flag : {"reward_kind", "reward_dtype", "reward_device", "reward_max_length", "verdict_question",
                           "verdict_yes", "verdict_no"}) {
    if (IsChanged(flag)) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag, ": has no effect without --reward_model"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<EnginePoolOptions> ReadPoolFlags() {
  EnginePoolOptions options;
  options.model = {.path = absl::GetFlag(FLAGS_model),
                   .dtype = absl::GetFlag(FLAGS_dtype),
                   .device = absl::GetFlag(FLAGS_device),
                   .max_length = absl::GetFlag(FLAGS_max_model_length)};
  if (options.model.path.empty()) {
    return absl::InvalidArgumentError(
        "--model: must name the folder of a language model, for example --model=models/writer");
  }
  NABLA_RETURN_IF_ERROR(CheckOneOf("dtype", options.model.dtype, {"auto", "float32", "bfloat16"}));
  NABLA_RETURN_IF_ERROR(CheckDevice("device", options.model.device));
  NABLA_RETURN_IF_ERROR(CheckRange("max_model_length", options.model.max_length, 0, kMaxCount));
  if (absl::GetFlag(FLAGS_reward_model).empty()) {
    NABLA_RETURN_IF_ERROR(CheckNoRewardFlags());
  } else {
    NABLA_ASSIGN_OR_RETURN(options.reward_model, ReadRewardFlags());
  }
  options.workers = absl::GetFlag(FLAGS_workers);
  options.threads_per_worker = absl::GetFlag(FLAGS_threads_per_worker);
  options.max_queued_requests = absl::GetFlag(FLAGS_max_queued_requests);
  options.max_new_tokens_limit = absl::GetFlag(FLAGS_max_new_tokens_limit);
  options.max_rollouts_limit = absl::GetFlag(FLAGS_max_rollouts_limit);
  NABLA_RETURN_IF_ERROR(CheckRange("workers", options.workers, 0, 1024));
  NABLA_RETURN_IF_ERROR(CheckRange("threads_per_worker", options.threads_per_worker, 0, 1024));
  NABLA_RETURN_IF_ERROR(CheckRange("max_queued_requests", options.max_queued_requests, 0, kMaxCount));
  NABLA_RETURN_IF_ERROR(CheckRange("max_new_tokens_limit", options.max_new_tokens_limit, 1, kMaxCount));
  NABLA_RETURN_IF_ERROR(CheckRange("max_rollouts_limit", options.max_rollouts_limit, 1, kMaxCount));
  return options;
}

absl::StatusOr<ServerOptions> ReadServerFlags() {
  ServerOptions options;
  options.host = absl::GetFlag(FLAGS_host);
  options.port = absl::GetFlag(FLAGS_port);
  options.metrics_port = absl::GetFlag(FLAGS_metrics_port);
  options.drain_timeout = absl::GetFlag(FLAGS_drain_timeout);
  options.max_new_tokens_limit = absl::GetFlag(FLAGS_max_new_tokens_limit);
  options.max_rollouts_limit = absl::GetFlag(FLAGS_max_rollouts_limit);
  if (options.host.empty())
    return absl::InvalidArgumentError("--host: must not be empty; 127.0.0.1 is this machine alone");
  NABLA_RETURN_IF_ERROR(CheckRange("port", options.port, 0, 65535));
  NABLA_RETURN_IF_ERROR(CheckRange("metrics_port", options.metrics_port, -1, 65535));
  if (options.port != 0 && options.port == options.metrics_port) {
    return absl::InvalidArgumentError(
        absl::StrCat("--metrics_port: must differ from --port, got ", options.port, " for both"));
  }
  if (options.drain_timeout < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--drain_timeout: must not be negative, got ", absl::FormatDuration(options.drain_timeout)));
  }
  return options;
}

}  // namespace

absl::StatusOr<CommandLine> ReadFlags() {
  CommandLine command_line;
  NABLA_ASSIGN_OR_RETURN(command_line.pool, ReadPoolFlags());
  NABLA_ASSIGN_OR_RETURN(command_line.server, ReadServerFlags());
  return command_line;
}

void SetUpUsage() {
  absl::SetProgramUsageMessage(
      "serves the Nabla API over gRPC.\n\n"
      "  nabla-server --model=models/writer --reward_model=models/judge");
  absl::FlagsUsageConfig config;
  static constexpr auto is_ours = [](absl::string_view file) { return absl::EndsWith(file, "server/flags.cc"); };
  config.contains_help_flags = is_ours;
  config.contains_helpshort_flags = is_ours;
  config.normalize_filename = [](absl::string_view file) {
    return is_ours(file) ? std::string("server/flags.cc") : std::string(file);
  };
  config.version_string = [] { return std::string("nabla-server " NABLA_VERSION "\n"); };
  absl::SetFlagsUsageConfig(config);
}

}  // namespace nabla
