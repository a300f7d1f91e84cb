// Rows divided among the threads of a team, for work in libtorch's terms on a CPU. Includes torch.
//
//   const int64_t parts = RowParts(rows, team);
//   ForRowParts(team, rows, parts, [&](int64_t part, int64_t begin, int64_t end) { … });
//   ForGrowingRowParts(team, rows, parts, first, …);   // of causal attention: later rows see more keys
#ifndef NABLA_ENGINE_MODEL_ROW_PARTS_H_
#define NABLA_ENGINE_MODEL_ROW_PARTS_H_

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "engine/kernels/thread_team.h"

namespace nabla {

// One part a thread, unless there are so few rows that waking it is not worth it.
inline int64_t RowParts(int64_t rows, const ThreadTeam& team) {
  constexpr int64_t kLeastRows = 8;
  return std::clamp<int64_t>(rows / kLeastRows, 1, team.size());
}

// Libtorch's own threads stay out of it: they and the team's would wait for each other's cores.
inline void UseOneTorchThread() {
  thread_local bool done = false;
  if (!std::exchange(done, true)) at::set_num_threads(1);
}

// Calls body(part, begin, end) for all parts, side by side and without autograd. Part i begins at begin_of(i).
template <typename BeginOf, typename Body>
void ForRowPartsFrom(ThreadTeam& team, int64_t parts, const BeginOf& begin_of, const Body& body) {
  team.ParallelFor(parts, 1, [&](int64_t first, int64_t last) {
    const torch::InferenceMode inference;
    UseOneTorchThread();
    for (int64_t part = first; part < last; ++part) body(part, begin_of(part), begin_of(part + 1));
  });
}

// Parts of as many rows each.
template <typename Body>
void ForRowParts(ThreadTeam& team, int64_t rows, int64_t parts, const Body& body) {
  ForRowPartsFrom(
      team, parts, [&](int64_t part) { return rows * part / parts; }, body);
}

// Parts of as much work each, where row i takes first + i of it.
template <typename Body>
void ForGrowingRowParts(ThreadTeam& team, int64_t rows, int64_t parts, double first, const Body& body) {
  const auto begin_of = [&](int64_t part) {
    // Rows before n take first · n + n² / 2.
    const double work = (first + static_cast<double>(rows) / 2) * static_cast<double>(rows * part) / parts;
    return static_cast<int64_t>(std::llround(std::sqrt(first * first + 2 * work) - first));
  };
  ForRowPartsFrom(team, parts, begin_of, body);
}

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_ROW_PARTS_H_
