#include "server/flags.h"

#include <cstdint>
#include <cstring>
#include <iostream>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/marshalling.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"

namespace nabla {

constexpr char kNotGiven[] = "<not given>";  // Abseil wants defaults that it can read back

// The value of a flag if the command line gives one; an empty one counts.
template <typename T>
struct Given {
  std::optional<T> value;
};

template <typename T>
bool AbslParseFlag(absl::string_view text, Given<T>* flag, std::string* error) {
  flag->value.reset();
  if (text == kNotGiven) return true;
  return absl::ParseFlag(text, &flag->value.emplace(), error);
}

template <typename T>
std::string AbslUnparseFlag(const Given<T>& flag) {
  if (!flag.value.has_value()) return kNotGiven;
  if constexpr (std::is_same_v<T, absl::Duration>) {
    return AbslUnparseFlag(*flag.value);
  } else {
    return absl::UnparseFlag(*flag.value);
  }
}

// 1073741824, 1024MiB or 1GiB.
struct ByteCount {
  int64_t bytes = 0;
};

bool AbslParseFlag(absl::string_view text, ByteCount* count, std::string* error) {
  constexpr std::pair<absl::string_view, int> kUnits[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  int shift = 0;
  for (const auto& [unit, bits] : kUnits) {
    if (absl::ConsumeSuffix(&text, unit)) shift = bits;
  }
  int64_t number = 0;
  const bool fits = absl::SimpleAtoi(text, &number) && number >= 0 && number <= (INT64_MAX >> shift);
  if (!fits) *error = "must be a number of bytes, or one with KiB, MiB, GiB or TiB, for example 512MiB";
  count->bytes = fits ? number << shift : 0;
  return fits;
}

std::string AbslUnparseFlag(const ByteCount& count) { return absl::StrCat(count.bytes); }

using Strings = std::vector<std::string>;

}  // namespace nabla

using nabla::ByteCount;
using nabla::Given;
using nabla::Strings;

ABSL_FLAG(std::string, config, "", "Config file, a ServerConfig (proto/nabla/v1/config.proto) in text format.");
ABSL_FLAG(bool, check_config, false, "Check flags, config file and the files that they name, and exit.");
ABSL_FLAG(Given<std::string>, model, {}, "Folder of the language model in Hugging Face layout. Required.");
ABSL_FLAG(Given<std::string>, dtype, {},
          "Number type of the language model: float32, bfloat16 or auto (what its config.json says). Default: auto.");
ABSL_FLAG(Given<int>, max_model_length, {},
          "Tokens of prompt and response together. Default: 0, the model's own limit, at most 8192.");
ABSL_FLAG(Given<Strings>, devices, {},
          "Devices, one engine each, with commas between them: cpu, cuda:N; or auto (CUDA where there is one). "
          "Default: auto.");
ABSL_FLAG(Given<ByteCount>, kv_cache_bytes, {},
          "Memory of one engine for keys and values, for example 512MiB. Default: 1GiB.");
ABSL_FLAG(Given<int>, max_running_requests, {}, "Requests that run at once on one engine. Default: 64.");
ABSL_FLAG(Given<int>, threads, {}, "Threads of one CPU engine. Default: 0, the cores, or fewer for small models.");
ABSL_FLAG(Given<int>, max_batch_tokens, {}, "Tokens of one forward pass. Default: 128.");
ABSL_FLAG(Given<int>, max_draft_tokens, {},
          "Guessed tokens that a pass verifies, at most; they change no answer. 0: none. Default: 8.");
ABSL_FLAG(
    Given<std::string>, draft_weights, {},
    "What guesses besides an earlier rollout: int8, a copy of the model with such weights; none; or auto (int8 on "
    "a CPU for weights of 64 MiB and more). Default: auto.");
ABSL_FLAG(Given<std::string>, draft_model, {},
          "Folder of a small model with the same tokenizer, for the strategy speculative_candidates. Default: none.");
ABSL_FLAG(Given<std::string>, draft_dtype, {}, "As --dtype, for the draft model. Default: auto.");
ABSL_FLAG(Given<Strings>, guard_models, {},
          "Folders of further reward models, with commas between them, that revisions must please as well where a "
          "request asks for it. Default: none.");
ABSL_FLAG(
    Given<std::string>, reward_model, {},
    "Folder of the reward model. Without one, and without --reward_address, strategies that need rewards are refused.");
ABSL_FLAG(Given<std::string>, reward_kind, {},
          "Kind of reward: classifier, likelihood, verdict or auto (from its config.json). Default: auto.");
ABSL_FLAG(Given<std::string>, reward_dtype, {}, "As --dtype, for the reward model. Default: auto.");
ABSL_FLAG(Given<int>, reward_max_length, {}, "As --max_model_length, for the reward model. Default: 0.");
ABSL_FLAG(Given<std::string>, verdict_question, {},
          "What a verdict asks behind the answer. Default: Is the answer above correct? Reply with Yes or No.");
ABSL_FLAG(Given<std::string>, verdict_yes, {}, "The word of a verdict that speaks for the answer. Default: Yes.");
ABSL_FLAG(Given<std::string>, verdict_no, {}, "The word of a verdict that speaks against the answer. Default: No.");
ABSL_FLAG(Given<Strings>, reward_address, {},
          "HOST:PORT of nabla-reward-server instead of --reward_model; several replicas with commas between them.");
ABSL_FLAG(Given<std::string>, reward_tls_ca, {},
          "PEM file of the authorities of the reward servers. Default: they are called in the clear.");
ABSL_FLAG(Given<std::string>, reward_token_file, {}, "File that holds the bearer token for the reward servers.");
ABSL_FLAG(Given<int>, max_queued_requests, {},
          "Requests that may wait for an engine; more get RESOURCE_EXHAUSTED. Default: 256.");
ABSL_FLAG(Given<int64_t>, max_queued_tokens, {},
          "Tokens, of prompts and responses to come, that may wait for an engine. Default: 1048576.");
ABSL_FLAG(Given<int>, max_new_tokens_limit, {}, "Largest max_new_tokens a request may ask for. Default: 4096.");
ABSL_FLAG(Given<int>, max_rollouts_limit, {}, "Largest max_rollouts a request may ask for. Default: 1024.");
ABSL_FLAG(Given<std::string>, host, {},
          "Address to listen on; 0.0.0.0 lets other machines in, so set --tls_certificate and --auth_tokens, too. "
          "Default: 127.0.0.1.");
ABSL_FLAG(Given<int>, port, {}, "gRPC port; 0 picks a free one and prints it. Default: 50051.");
ABSL_FLAG(Given<std::string>, tls_certificate, {},
          "PEM file of the server's certificate and those that lead to its authority; read again when it changes. "
          "Default: connections are in the clear.");
ABSL_FLAG(Given<std::string>, tls_key, {}, "PEM file of its private key; read again when it changes.");
ABSL_FLAG(Given<std::string>, tls_client_ca, {},
          "PEM file of the authorities of clients, who must show a certificate then (mutual TLS).");
ABSL_FLAG(Given<std::string>, auth_tokens, {},
          "File of bearer tokens and their limits, an AuthTokens in text format; read again when it changes. "
          "Default: everybody may come.");
ABSL_FLAG(Given<int>, metrics_port, {},
          "Port of the Prometheus metrics, under /metrics; 0 picks a free one, -1 turns them off. Default: 9464.");
ABSL_FLAG(Given<std::string>, log_format, {}, "Format of the log on stderr: logfmt or json. Default: logfmt.");
ABSL_FLAG(Given<absl::Duration>, drain_timeout, {},
          "How long SIGTERM or SIGINT lets running and queued requests finish before they are stopped. Default: 30s.");

namespace nabla {
namespace {

void Set(Settings* settings, const char* flag, const std::string& value) { settings->Override(flag, value); }
void Set(Settings* settings, const char* flag, int64_t value) { settings->Override(flag, value); }
void Set(Settings* settings, const char* flag, ByteCount value) { settings->Override(flag, value.bytes); }
void Set(Settings* settings, const char* flag, const Strings& value) { settings->Override(flag, value); }
void Set(Settings* settings, const char* flag, absl::Duration value) {
  settings->Override(flag, absl::ToDoubleSeconds(value));
}

template <typename T>
void SetIfGiven(Settings* settings, const absl::Flag<Given<T>>& flag, const char* name) {
  if (const Given<T> given = absl::GetFlag(flag); given.value.has_value()) Set(settings, name, *given.value);
}

// In the order of the help.
const char* const kFlags[] = {"config",
                              "check_config",
                              "model",
                              "dtype",
                              "max_model_length",
                              "reward_model",
                              "reward_kind",
                              "reward_dtype",
                              "reward_max_length",
                              "draft_model",
                              "draft_dtype",
                              "guard_models",
                              "verdict_question",
                              "verdict_yes",
                              "verdict_no",
                              "reward_address",
                              "reward_tls_ca",
                              "reward_token_file",
                              "devices",
                              "kv_cache_bytes",
                              "max_running_requests",
                              "threads",
                              "max_batch_tokens",
                              "max_draft_tokens",
                              "draft_weights",
                              "max_queued_requests",
                              "max_queued_tokens",
                              "max_new_tokens_limit",
                              "max_rollouts_limit",
                              "host",
                              "port",
                              "tls_certificate",
                              "tls_key",
                              "tls_client_ca",
                              "auth_tokens",
                              "metrics_port",
                              "log_format",
                              "drain_timeout"};

constexpr size_t kHelpWidth = 100;

// The text in lines of at most kHelpWidth, indented.
std::string Wrap(absl::string_view text) {
  std::string wrapped;
  size_t column = kHelpWidth;
  for (absl::string_view word : absl::StrSplit(text, ' ')) {
    const bool fits = column + 1 + word.size() <= kHelpWidth;
    absl::StrAppend(&wrapped, fits ? " " : wrapped.empty() ? "      " : "\n      ", word);
    column = fits ? column + 1 + word.size() : 6 + word.size();
  }
  return wrapped;
}

}  // namespace

absl::StatusOr<Settings> ReadFlags() {
  NABLA_ASSIGN_OR_RETURN(Settings settings, Settings::Load(absl::GetFlag(FLAGS_config)));
#define NABLA_SET_IF_GIVEN(name) SetIfGiven(&settings, FLAGS_##name, #name)
  NABLA_SET_IF_GIVEN(model);
  NABLA_SET_IF_GIVEN(dtype);
  NABLA_SET_IF_GIVEN(max_model_length);
  NABLA_SET_IF_GIVEN(draft_model);
  NABLA_SET_IF_GIVEN(draft_dtype);
  NABLA_SET_IF_GIVEN(guard_models);
  NABLA_SET_IF_GIVEN(reward_model);
  NABLA_SET_IF_GIVEN(reward_kind);
  NABLA_SET_IF_GIVEN(reward_dtype);
  NABLA_SET_IF_GIVEN(reward_max_length);
  NABLA_SET_IF_GIVEN(verdict_question);
  NABLA_SET_IF_GIVEN(verdict_yes);
  NABLA_SET_IF_GIVEN(verdict_no);
  NABLA_SET_IF_GIVEN(reward_address);
  NABLA_SET_IF_GIVEN(reward_tls_ca);
  NABLA_SET_IF_GIVEN(reward_token_file);
  NABLA_SET_IF_GIVEN(devices);
  NABLA_SET_IF_GIVEN(kv_cache_bytes);
  NABLA_SET_IF_GIVEN(max_running_requests);
  NABLA_SET_IF_GIVEN(threads);
  NABLA_SET_IF_GIVEN(max_batch_tokens);
  NABLA_SET_IF_GIVEN(max_draft_tokens);
  NABLA_SET_IF_GIVEN(draft_weights);
  NABLA_SET_IF_GIVEN(max_queued_requests);
  NABLA_SET_IF_GIVEN(max_queued_tokens);
  NABLA_SET_IF_GIVEN(max_new_tokens_limit);
  NABLA_SET_IF_GIVEN(max_rollouts_limit);
  NABLA_SET_IF_GIVEN(host);
  NABLA_SET_IF_GIVEN(port);
  NABLA_SET_IF_GIVEN(tls_certificate);
  NABLA_SET_IF_GIVEN(tls_key);
  NABLA_SET_IF_GIVEN(tls_client_ca);
  NABLA_SET_IF_GIVEN(auth_tokens);
  NABLA_SET_IF_GIVEN(metrics_port);
  NABLA_SET_IF_GIVEN(log_format);
  NABLA_SET_IF_GIVEN(drain_timeout);
#undef NABLA_SET_IF_GIVEN
  return settings;
}

bool OnlyCheckConfig() { return absl::GetFlag(FLAGS_check_config); }

void SetUpFlags(int argc, char** argv) {
  for (int i = 1; i < argc && std::strcmp(argv[i], "--") != 0; ++i) {
    if (std::strncmp(argv[i], "--", 2) != 0) continue;
    for (char* c = argv[i] + 2; *c != '\0' && *c != '='; ++c) {
      if (*c == '-') *c = '_';
    }
  }
  absl::FlagsUsageConfig config;
  config.version_string = [] { return std::string("nabla-server " NABLA_VERSION "\n"); };
  absl::SetFlagsUsageConfig(config);
}

bool PrintHelpIfAsked(int argc, char** argv) {
  bool asked = false;
  for (int i = 1; i < argc && std::strcmp(argv[i], "--") != 0; ++i) {
    asked = asked || std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0;
  }
  if (!asked) return false;
  std::cout << "nabla-server: serves the Nabla API over gRPC.\n\n"
               "  nabla-server --model=models/writer --reward_model=models/judge\n"
               "  nabla-server --config=server.textproto --port=50052\n\n"
               "A flag overrides its field of the config file, which is named behind it.\n\n";
  for (const char* name : kFlags) {
    const std::string field = FieldOfFlag(name);
    std::cout << "  --" << name << (field.empty() ? "" : absl::StrCat("  (", field, ")")) << "\n"
              << Wrap(absl::FindCommandLineFlag(name)->Help()) << "\n";
  }
  std::cout << "  --version\n      The version, and exit.\n  --help\n      This text, and exit.\n";
  return true;
}

}  // namespace nabla
