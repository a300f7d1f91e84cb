#include "server/reward_config.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "server/common_settings.h"

namespace nabla {
namespace {

void ReadEngine(Settings& settings, RewardEngineOptions* engine) {
  if (!settings.Has("model")) {
    settings.Fail("model", "must name the folder of a reward model, for example --model=models/judge");
  }
  ReadRewardModel(settings, &engine->model);
  settings.Read("device", &engine->device);
  CheckDevice(settings, "device", engine->device);
  ReadEngineSize(settings, &engine->kv_cache_bytes, &engine->threads, &engine->max_batch_tokens,
                 &engine->gradient_weights);
  if (IsCuda(engine->device)) {
    settings.FailIfGiven({"threads", "gradient_weights"}, absl::StrCat("has no effect with --device=", engine->device));
  }
}

void ReadServing(Settings& settings, RewardServerOptions* server) {
  settings.Read("max_concurrent_calls", 1, 4096, &server->calls.threads);
  settings.Read("max_waiting_calls", 0, kMaxCount, &server->calls.max_waiting);
  settings.Read("max_idle_contexts", 0, kMaxCount, &server->contexts.max_idle);
  server->version = NABLA_VERSION;
  server->listener.port = 50052;
  server->listener.max_connection_age = absl::Minutes(5);  // so that its clients find replicas that have joined
  ReadListener(settings, &server->listener, &server->auth_tokens_file);
  server->metrics_port = 9465;
  ReadMetrics(settings, server->listener, &server->metrics_host, &server->metrics_port);
  ReadLog(settings, &server->listener.log);
  ReadDrainTimeout(settings, &server->drain_timeout);
}

}  // namespace

absl::StatusOr<RewardServerSetup> ReadRewardSetup(Settings& settings) {
  RewardServerSetup setup;
  ReadEngine(settings, &setup.engine);
  ReadServing(settings, &setup.server);
  NABLA_RETURN_IF_ERROR(settings.status());
  return setup;
}

absl::Status CheckFiles(const RewardServerSetup& setup) {
  NABLA_RETURN_IF_ERROR(CheckModelFolder("--model", setup.engine.model.path));
  return CheckListenerFiles(setup.server.listener, setup.server.auth_tokens_file);
}

}  // namespace nabla
