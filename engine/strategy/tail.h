// What the best of many more draws from a distribution may be, by the upper tail of the few that there are.
//
//   ExpectedBest({1.2, 0.4, 2.0, 0.9}, /*draws=*/16)   // about 3
//
// Pure functions; thread-safe. Source: Qian, Li, Mou, arXiv 2602.01485 (scaling-law guided search).
#ifndef NABLA_ENGINE_STRATEGY_TAIL_H_
#define NABLA_ENGINE_STRATEGY_TAIL_H_

#include <vector>

namespace nabla {

// Mean of the largest of `draws` ≥ 1 draws, taking the upper half of `rewards` (at least two) for that of a normal
// distribution: a line through them against what order statistics of a standard normal distribution are on average.
// The largest reward where all of that half are equal.
double ExpectedBest(std::vector<double> rewards, int draws);

// Mean of the i-th smallest (from 1) of n draws from a standard normal distribution (Blom's approximation).
double NormalScore(int i, int n);

}  // namespace nabla

#endif  // NABLA_ENGINE_STRATEGY_TAIL_H_
