// How far a long command has come, as one line of a terminal.
//
//   ProgressBar(45, 300, absl::Seconds(9))   // "[###.................] 45/300, 51s left"
//
// Pure function; thread-safe.
#ifndef NABLA_CLIENT_CLI_PROGRESS_BAR_H_
#define NABLA_CLIENT_CLI_PROGRESS_BAR_H_

#include <cstddef>
#include <string>

#include "absl/time/time.h"

namespace nabla {

// `done` of `total` ≥ 1 in `elapsed`. What is left is reckoned at the rate so far, in whole seconds, once something is
// done.
std::string ProgressBar(size_t done, size_t total, absl::Duration elapsed);

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_PROGRESS_BAR_H_
