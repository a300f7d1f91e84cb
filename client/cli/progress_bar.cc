#include "client/cli/progress_bar.h"

#include "absl/strings/str_cat.h"

namespace nabla {

std::string ProgressBar(size_t done, size_t total, absl::Duration elapsed) {
  constexpr size_t kWidth = 20;
  const size_t filled = kWidth * done / total;
  std::string bar =
      absl::StrCat("[", std::string(filled, '#'), std::string(kWidth - filled, '.'), "] ", done, "/", total);
  if (done == 0 || done == total) return bar;
  const absl::Duration left = elapsed / static_cast<double>(done) * static_cast<double>(total - done);
  absl::StrAppend(&bar, ", ", absl::FormatDuration(absl::Ceil(left, absl::Seconds(1))), " left");
  return bar;
}

}  // namespace nabla
