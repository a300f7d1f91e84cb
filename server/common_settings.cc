#include "server/common_settings.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "server/authenticator.h"
#include "server/file.h"
#include "server/tls.h"

namespace nabla {
namespace {

constexpr int64_t kMebibyte = int64_t{1} << 20;
constexpr int kMaxPort = 65535;
constexpr double kHour = 3600;
constexpr double kDay = 24 * kHour;

}  // namespace

const std::vector<std::string>& Dtypes() {
  static const auto* const dtypes = new std::vector<std::string>({"auto", "float32", "bfloat16"});
  return *dtypes;
}

bool IsCuda(absl::string_view device) {
  int index = 0;
  return absl::ConsumePrefix(&device, "cuda:") && absl::SimpleAtoi(device, &index) && index >= 0;
}

void ReadRewardModel(Settings& settings, RewardModelOptions* model) {
  settings.Read("reward_model.path", &model->path);
  settings.Read("reward_model.kind", {"auto", "classifier", "likelihood", "verdict"}, &model->kind);
  settings.Read("reward_model.dtype", Dtypes(), &model->dtype);
  settings.Read("reward_model.max_length", 0, kMaxCount, &model->max_length);
  if (model->kind != "verdict") {
    return settings.FailIfGiven(
        {"reward_model.verdict_question", "reward_model.verdict_yes", "reward_model.verdict_no"},
        absl::StrCat("has no effect without ", settings.Written("reward_model.kind"), "=verdict"));
  }
  settings.Read("reward_model.verdict_question", &model->verdict_question);
  settings.Read("reward_model.verdict_yes", &model->verdict_yes);
  settings.Read("reward_model.verdict_no", &model->verdict_no);
}

void CheckDevice(Settings& settings, const std::string& name, const std::string& device) {
  if (device == "auto" || device == "cpu" || IsCuda(device)) return;
  settings.Fail(name, absl::StrCat("must be auto, cpu or cuda:N, got \"", device, "\""));
}

void ReadEngineSize(Settings& settings, int64_t* kv_cache_bytes, int* threads, int* max_batch_tokens,
                    std::string* gradient_weights) {
  settings.Read("engine.kv_cache_bytes", kMebibyte, kMebibyte * kMebibyte * 16, kv_cache_bytes);
  settings.Read("engine.threads", 0, 1024, threads);
  settings.Read("engine.max_batch_tokens", 1, 65536, max_batch_tokens);
  settings.Read("engine.gradient_weights", {"packed", "model"}, gradient_weights);
}

void ReadListener(Settings& settings, ListenerOptions* listener, std::string* auth_tokens_file) {
  settings.Read("listener.host", &listener->host);
  settings.Read("listener.port", 0, kMaxPort, &listener->port);
  settings.Read("listener.tls.certificate_file", &listener->tls.certificate_file);
  settings.Read("listener.tls.key_file", &listener->tls.key_file);
  settings.Read("listener.tls.client_ca_file", &listener->tls.client_ca_file);
  settings.Read("listener.auth_tokens_file", auth_tokens_file);
  settings.Read("listener.max_receive_message_bytes", 1024, 1 << 30, &listener->max_receive_message_bytes);
  settings.Read("listener.max_concurrent_streams", 1, kMaxCount, &listener->max_concurrent_streams);
  settings.ReadSeconds("listener.keepalive_time_seconds", 1, kDay, &listener->keepalive_time);
  settings.ReadSeconds("listener.keepalive_timeout_seconds", 1, kHour, &listener->keepalive_timeout);
  settings.ReadSecondsOrInfinity("listener.max_connection_age_seconds", 1, absl::ToDoubleSeconds(kMaxConnectionAge),
                                 &listener->max_connection_age);
}

void ReadMetrics(Settings& settings, const ListenerOptions& listener, std::string* host, int* port) {
  settings.Read("metrics.port", -1, kMaxPort, port);
  settings.Read("metrics.host", host);
  if (*port == -1) settings.FailIfGiven({"metrics.host"}, "has no effect with --metrics_port=-1");
  const bool same_host = host->empty() || *host == listener.host;
  if (listener.port != 0 && listener.port == *port && same_host) {
    settings.Fail("metrics.port", absl::StrCat("must differ from --port, got ", *port, " for both"));
  }
}

void ReadLog(Settings& settings, LogSink* log) {
  std::string format = "logfmt";
  settings.Read("logging.format", {"logfmt", "json"}, &format);
  *log = LogToStderr(format == "json" ? LogFormat::kJson : LogFormat::kLogfmt);
}

void ReadDrainTimeout(Settings& settings, absl::Duration* timeout) {
  settings.ReadSeconds("drain_timeout_seconds", 0, kDay, timeout);
}

absl::Status CheckModelFolder(absl::string_view flag, const std::string& folder) {
  for (const char* file : {"config.json", "tokenizer.json"}) {
    NABLA_RETURN_IF_ERROR(ReadFile(flag, absl::StrCat(folder, "/", file)).status());
  }
  return absl::OkStatus();
}

absl::Status CheckListenerFiles(const ListenerOptions& listener, const std::string& auth_tokens_file) {
  if (listener.tls.enabled()) NABLA_RETURN_IF_ERROR(ReadTlsCertificates(listener.tls).status());
  return Authenticator::Create(auth_tokens_file, listener.log).status();
}

}  // namespace nabla
