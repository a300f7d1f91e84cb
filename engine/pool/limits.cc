#include "engine/pool/limits.h"

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/pool/engine.h"

namespace nabla {
namespace {

absl::Status CheckAtLeast(const char* option, int64_t value, int64_t least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(option, " is ", value, "; expected ", least, " or more"));
}

absl::Status CheckAtMost(const std::string& field, int64_t value, int64_t limit) {
  if (value <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": must be at most ", limit, " on this server, got ", value));
}

}  // namespace

absl::Status ValidateEnginePoolOptions(const EnginePoolOptions& options) {
  if (options.devices.empty()) {
    return absl::InvalidArgumentError("devices is empty; expected one or more of cpu, cuda:N and auto");
  }
  NABLA_RETURN_IF_ERROR(CheckAtLeast("kv_cache_bytes", options.kv_cache_bytes, 1));
  NABLA_RETURN_IF_ERROR(CheckAtLeast("max_running_requests", options.max_running_requests, 1));
  NABLA_RETURN_IF_ERROR(CheckAtLeast("threads", options.threads, 0));
  NABLA_RETURN_IF_ERROR(CheckAtLeast("max_batch_tokens", options.max_batch_tokens, 1));
  NABLA_RETURN_IF_ERROR(CheckAtLeast("max_draft_tokens", options.max_draft_tokens, 0));
  if (options.draft_weights != "auto" && options.draft_weights != "int8" && options.draft_weights != "none") {
    return absl::InvalidArgumentError(
        absl::StrCat("draft_weights is \"", options.draft_weights, "\"; expected auto, int8 or none"));
  }
  if (options.rollout_weights != "model" && options.rollout_weights != "int8") {
    return absl::InvalidArgumentError(
        absl::StrCat("rollout_weights is \"", options.rollout_weights, "\"; expected model or int8"));
  }
  if (options.gradient_weights != "packed" && options.gradient_weights != "model") {
    return absl::InvalidArgumentError(
        absl::StrCat("gradient_weights is \"", options.gradient_weights, "\"; expected packed or model"));
  }
  if (options.rollout_weights == "int8" && options.draft_weights == "int8") {
    return absl::InvalidArgumentError(
        "draft_weights: int8 would guess what rollout_weights: int8 says by itself; leave one of them out");
  }
  NABLA_RETURN_IF_ERROR(CheckAtLeast("max_queued_requests", options.max_queued_requests, 1));
  NABLA_RETURN_IF_ERROR(CheckAtLeast("max_queued_tokens", options.max_queued_tokens, 1));
  NABLA_RETURN_IF_ERROR(CheckAtLeast("max_new_tokens_limit", options.max_new_tokens_limit, 1));
  return CheckAtLeast("max_rollouts_limit", options.max_rollouts_limit, 1);
}

absl::Status CheckLimits(const EnginePoolOptions& options, const ReasonRequest& request) {
  NABLA_RETURN_IF_ERROR(CheckAtMost("max_new_tokens", request.max_new_tokens, options.max_new_tokens_limit));
  const ResponseCount rollouts = MostRollouts(request.strategy);
  return CheckAtMost(rollouts.field, rollouts.count, options.max_rollouts_limit);
}

int64_t EstimateTokens(const Engine::Prepared& prepared) {
  return static_cast<int64_t>(prepared.prompt_ids.size()) +
         prepared.request.max_new_tokens * MostRollouts(prepared.request.strategy).count;
}

}  // namespace nabla
