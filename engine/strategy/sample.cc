// One rollout, every token final as it is decoded.
#include "engine/base/status_macros.h"
#include "engine/strategy/strategy.h"

namespace nabla {

absl::StatusOr<ReasonResult> RunSample(const SampleOptions& options, Session& session) {
  NABLA_RETURN_IF_ERROR(session.RollOut(options.sampling, Session::Stream::kCommit));
  return FinishedResult(session, session.finish_reason());
}

}  // namespace nabla
