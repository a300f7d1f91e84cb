// Early return on errors, as in Abseil's style guide.
//
//   NABLA_ASSIGN_OR_RETURN(ModelConfig config, ModelConfig::Load(folder));
//   NABLA_RETURN_IF_ERROR(config.Validate());
#ifndef NABLA_ENGINE_BASE_STATUS_MACROS_H_
#define NABLA_ENGINE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define NABLA_RETURN_IF_ERROR(expression)        \
  do {                                           \
    absl::Status nabla_status = (expression);    \
    if (!nabla_status.ok()) return nabla_status; \
  } while (false)

#define NABLA_ASSIGN_OR_RETURN(target, expression) \
  NABLA_ASSIGN_OR_RETURN_IMPL(NABLA_CONCAT(nabla_status_or_, __LINE__), target, expression)
#define NABLA_ASSIGN_OR_RETURN_IMPL(status_or, target, expression) \
  auto status_or = (expression);                                   \
  if (!status_or.ok()) return std::move(status_or).status();       \
  target = *std::move(status_or)
#define NABLA_CONCAT(a, b) NABLA_CONCAT_IMPL(a, b)
#define NABLA_CONCAT_IMPL(a, b) a##b

#endif  // NABLA_ENGINE_BASE_STATUS_MACROS_H_
