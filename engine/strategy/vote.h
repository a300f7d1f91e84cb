// Which of several responses the weight of their final answers is behind.
//
//   Elect({"The answer is 4", "so it is 5", "#### 4.0"}, {1, 1, 1})   // {0, 2}
//
// Pure function; thread-safe.
#ifndef NABLA_ENGINE_STRATEGY_VOTE_H_
#define NABLA_ENGINE_STRATEGY_VOTE_H_

#include <cstddef>
#include <string>
#include <vector>

namespace nabla {

// Those whose final answer (text/final_answer.h) has the largest sum of weights, in order; of equal sums, that of the
// answer that comes first. Responses without an answer do not vote; where none has one, all are returned. One weight ≥
// 0 a response.
std::vector<size_t> Elect(const std::vector<std::string>& responses, const std::vector<double>& weights);

}  // namespace nabla

#endif  // NABLA_ENGINE_STRATEGY_VOTE_H_
