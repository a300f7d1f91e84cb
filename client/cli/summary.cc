#include "client/cli/summary.h"

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/seconds.h"

namespace nabla {

std::string FormatRevision(const v1::Revision& revision) {
  std::string line =
      absl::StrFormat("revised token %u: \"%s\" → \"%s\"", revision.position(),
                      absl::Utf8SafeCEscape(revision.old_text()), absl::Utf8SafeCEscape(revision.new_text()));
  if (revision.has_reward_before() && revision.has_reward_after()) {
    absl::StrAppendFormat(&line, "   reward %.4g → %.4g", revision.reward_before(), revision.reward_after());
  }
  return line;
}

std::string FormatSummary(const v1::Finished& finished) {
  const v1::Usage& usage = finished.usage();
  std::vector<std::string> parts;
  if (finished.has_initial_reward() && finished.has_reward()) {
    parts.push_back(absl::StrFormat("reward %.4g → %.4g", finished.initial_reward(), finished.reward()));
  }
  if (usage.rollouts() > 0) {
    parts.push_back(absl::StrCat(usage.rollouts(), usage.rollouts() == 1 ? " rollout" : " rollouts"));
    parts.push_back(absl::StrCat(usage.revisions_accepted(), " accepted, ", usage.revisions_rejected(), " rejected"));
  }
  parts.push_back(absl::StrCat(usage.completion_tokens(), " tokens"));
  parts.push_back(absl::StrCat(usage.model_calls(), " model calls"));
  if (usage.gradient_steps() > 0) parts.push_back(absl::StrCat(usage.gradient_steps(), " gradient steps"));
  const double seconds = ToSeconds(usage.total_time());
  parts.push_back(absl::StrFormat("%.1f s", seconds));
  return absl::StrJoin(parts, " · ");
}

}  // namespace nabla
