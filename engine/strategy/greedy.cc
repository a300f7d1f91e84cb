// The most likely token at every step.
#include "engine/base/status_macros.h"
#include "engine/strategy/strategy.h"

namespace nabla {

absl::StatusOr<ReasonResult> RunGreedy(Session& session) {
  return RunSample({.sampling = {.temperature = 0}}, session);
}

}  // namespace nabla
