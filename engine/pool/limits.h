// What the options of a pool must be, and what they let a request ask for.
//
//   NABLA_RETURN_IF_ERROR(ValidateEnginePoolOptions(options));
//   NABLA_RETURN_IF_ERROR(CheckLimits(options, request));
//
// Pure functions.
#ifndef NABLA_ENGINE_POOL_LIMITS_H_
#define NABLA_ENGINE_POOL_LIMITS_H_

#include "absl/status/status.h"
#include "engine/base/request.h"
#include "engine/pool/engine_pool.h"

namespace nabla {

// INVALID_ARGUMENT naming the option ("max_queued_requests is 0; expected 1 or more"), or OK. What models and devices
// there are is for the engines to check.
absl::Status ValidateEnginePoolOptions(const EnginePoolOptions& options);

// INVALID_ARGUMENT naming the field ("max_new_tokens: must be at most 4096 on this server, got 5000"), or OK.
absl::Status CheckLimits(const EnginePoolOptions& options, const ReasonRequest& request);

}  // namespace nabla

#endif  // NABLA_ENGINE_POOL_LIMITS_H_
