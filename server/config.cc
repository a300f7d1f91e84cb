#include "server/config.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "server/common_settings.h"
#include "server/file.h"
#include "server/reward_address.h"

namespace nabla {
namespace {

constexpr double kHour = 3600;
constexpr double kDay = 24 * kHour;

void ReadModel(Settings& settings, ModelOptions* model) {
  if (!settings.Has("model")) {
    settings.Fail("model", "must name the folder of a language model, for example --model=models/writer");
  }
  settings.Read("model", &model->path);
  settings.Read("dtype", Dtypes(), &model->dtype);
  settings.Read("max_model_length", 0, kMaxCount, &model->max_length);
}

void ReadDraftModel(Settings& settings, std::optional<ModelOptions>* draft_model) {
  if (!settings.Has("draft_model")) {
    return settings.FailIfGiven({"draft_dtype"}, "has no effect without --draft_model");
  }
  ModelOptions& options = draft_model->emplace();
  settings.Read("draft_model", &options.path);
  settings.Read("draft_dtype", Dtypes(), &options.dtype);
}

void ReadGuardModels(Settings& settings, std::vector<ModelOptions>* guard_models) {
  std::vector<std::string> paths;
  settings.Read("guard_models", &paths);
  if (!paths.empty() && !settings.Has("reward_model") && !settings.Has("reward_address")) {
    settings.Fail("guard_models", "has no effect without --reward_model or --reward_address");
  }
  for (const std::string& path : paths) guard_models->push_back({.path = path});
}

// A setting about a reward model that is not there is a mistake.
void ReadLocalReward(Settings& settings, std::optional<RewardModelOptions>* reward_model) {
  if (!settings.Has("reward_model")) {
    return settings.FailIfGiven(
        {"reward_kind", "reward_dtype", "reward_max_length", "verdict_question", "verdict_yes", "verdict_no"},
        "has no effect without --reward_model");
  }
  ReadRewardModel(settings, &reward_model->emplace());
}

void ReadRemoteReward(Settings& settings, std::optional<RemoteRewardOptions>* remote_reward) {
  if (!settings.Has("reward_address")) {
    return settings.FailIfGiven(
        {"reward_tls_ca", "remote_reward.tls_certificate_file", "remote_reward.tls_key_file",
         "remote_reward.tls_server_name", "reward_token_file", "remote_reward.timeout_seconds",
         "remote_reward.max_attempts", "remote_reward.connect_timeout_seconds", "reward_gradients"},
        "has no effect without --reward_address");
  }
  if (settings.Has("reward_model")) {
    return settings.Fail("reward_address", "has no effect with --reward_model; give one of the two");
  }
  RemoteRewardOptions& options = remote_reward->emplace();
  std::vector<std::string> addresses;
  settings.Read("reward_address", &addresses);
  options.address = absl::StrJoin(addresses, ",");
  const absl::StatusOr<RewardAddress> address = ParseRewardAddress(options.address);
  if (!address.ok()) return settings.Fail(address.status());
  const bool all_loopback = std::all_of(address->hosts.begin(), address->hosts.end(), IsLoopback);
  settings.Read("reward_tls_ca", &options.tls_ca_file);
  settings.Read("remote_reward.tls_certificate_file", &options.tls_certificate_file);
  settings.Read("remote_reward.tls_key_file", &options.tls_key_file);
  settings.Read("remote_reward.tls_server_name", &options.tls_server_name);
  settings.Read("reward_token_file", &options.token_file);
  settings.ReadSeconds("remote_reward.connect_timeout_seconds", 0.001, kDay, &options.connect_timeout);
  settings.ReadSeconds("remote_reward.timeout_seconds", 0.001, kHour, &options.call_timeout);
  settings.Read("remote_reward.max_attempts", 1, 5, &options.max_attempts);
  std::string gradients = "float32";
  settings.Read("reward_gradients", {"float32", "bfloat16"}, &gradients);
  options.bfloat16_gradients = gradients == "bfloat16";
  if (options.tls_ca_file.empty()) {
    settings.FailIfGiven(
        {"remote_reward.tls_certificate_file", "remote_reward.tls_key_file", "remote_reward.tls_server_name"},
        "has no effect without --reward_tls_ca");
    if (!all_loopback) {
      settings.FailIfGiven({"reward_token_file"}, "would be sent in the clear; set --reward_tls_ca");
    }
  }
  if (options.tls_certificate_file.empty() != options.tls_key_file.empty()) {
    settings.Fail(options.tls_key_file.empty() ? "remote_reward.tls_certificate_file" : "remote_reward.tls_key_file",
                  "needs the other of remote_reward.tls_certificate_file and remote_reward.tls_key_file");
  }
}

void ReadEngine(Settings& settings, EnginePoolOptions* pool) {
  settings.Read("devices", &pool->devices);
  for (const std::string& device : pool->devices) {
    CheckDevice(settings, "devices", device);
    if (device == "auto" && pool->devices.size() > 1) settings.Fail("devices", "auto must stand alone");
  }
  ReadEngineSize(settings, &pool->kv_cache_bytes, &pool->threads, &pool->max_batch_tokens, &pool->gradient_weights);
  settings.Read("activation_bytes", 0, int64_t{1} << 44, &pool->activation_bytes);
  settings.Read("max_running_requests", 1, 4096, &pool->max_running_requests);
  if (std::all_of(pool->devices.begin(), pool->devices.end(), IsCuda)) {
    settings.FailIfGiven({"threads", "activation_bytes", "draft_weights", "gradient_weights"},
                         "has no effect without an engine on the CPU");
  }
  settings.Read("max_draft_tokens", 0, 64, &pool->max_draft_tokens);
  settings.Read("draft_weights", {"auto", "int8", "none"}, &pool->draft_weights);
  if (pool->max_draft_tokens == 0) settings.FailIfGiven({"draft_weights"}, "has no effect with --max_draft_tokens=0");
  settings.Read("rollout_weights", {"model", "int8"}, &pool->rollout_weights);
  if (pool->rollout_weights != "int8") return;
  if (std::any_of(pool->devices.begin(), pool->devices.end(), IsCuda)) {
    settings.Fail("rollout_weights", "int8 needs engines on the CPU alone; set --devices=cpu or leave it out");
  }
  if (pool->draft_weights == "int8") {
    settings.Fail("draft_weights",
                  "int8 would guess what --rollout_weights=int8 says by itself; leave one of them out");
  }
}

void ReadAdmission(Settings& settings, ServerSetup* setup) {
  EnginePoolOptions& pool = setup->pool;
  settings.Read("max_queued_requests", 1, kMaxCount, &pool.max_queued_requests);
  settings.Read("max_queued_tokens", 1, int64_t{kMaxCount} * kMaxCount, &pool.max_queued_tokens);
  settings.Read("max_new_tokens_limit", 1, kMaxCount, &pool.max_new_tokens_limit);
  settings.Read("max_rollouts_limit", 1, kMaxCount, &pool.max_rollouts_limit);
  setup->server.max_new_tokens_limit = pool.max_new_tokens_limit;
  setup->server.max_rollouts_limit = pool.max_rollouts_limit;
}

void ReadServing(Settings& settings, ServerOptions* server) {
  server->listener.port = 50051;
  ReadListener(settings, &server->listener, &server->auth_tokens_file);
  server->metrics_port = 9464;
  ReadMetrics(settings, server->listener, &server->metrics_host, &server->metrics_port);
  ReadLog(settings, &server->listener.log);
  ReadDrainTimeout(settings, &server->drain_timeout);
}

absl::Status CheckRemoteReward(const RemoteRewardOptions& options) {
  const std::pair<const char*, const std::string&> files[] = {
      {"--reward_tls_ca", options.tls_ca_file},
      {"remote_reward.tls_certificate_file", options.tls_certificate_file},
      {"remote_reward.tls_key_file", options.tls_key_file}};
  for (const auto& [name, path] : files) {
    if (path.empty()) continue;
    NABLA_ASSIGN_OR_RETURN(const std::string text, ReadFile(name, path));
    if (absl::StripAsciiWhitespace(text).empty()) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": ", path, " is empty"));
    }
  }
  return options.token_file.empty() ? absl::OkStatus() : ReadToken("--reward_token_file", options.token_file).status();
}

}  // namespace

absl::StatusOr<ServerSetup> ReadSetup(Settings& settings) {
  ServerSetup setup;
  ReadModel(settings, &setup.pool.model);
  ReadDraftModel(settings, &setup.pool.draft_model);
  ReadLocalReward(settings, &setup.pool.reward_model);
  ReadGuardModels(settings, &setup.pool.guard_models);
  ReadRemoteReward(settings, &setup.remote_reward);
  ReadEngine(settings, &setup.pool);
  ReadAdmission(settings, &setup);
  ReadServing(settings, &setup.server);
  NABLA_RETURN_IF_ERROR(settings.status());
  return setup;
}

absl::Status CheckFiles(const ServerSetup& setup) {
  NABLA_RETURN_IF_ERROR(CheckModelFolder("--model", setup.pool.model.path));
  if (setup.pool.draft_model.has_value()) {
    NABLA_RETURN_IF_ERROR(CheckModelFolder("--draft_model", setup.pool.draft_model->path));
  }
  if (setup.pool.reward_model.has_value()) {
    NABLA_RETURN_IF_ERROR(CheckModelFolder("--reward_model", setup.pool.reward_model->path));
  }
  for (const ModelOptions& guard : setup.pool.guard_models) {
    NABLA_RETURN_IF_ERROR(CheckModelFolder("--guard_models", guard.path));
  }
  if (setup.remote_reward.has_value()) NABLA_RETURN_IF_ERROR(CheckRemoteReward(*setup.remote_reward));
  return CheckListenerFiles(setup.server.listener, setup.server.auth_tokens_file);
}

}  // namespace nabla
