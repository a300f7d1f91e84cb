#include "engine/strategy/vote.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nabla {
namespace {

using ::testing::ElementsAre;

TEST(VoteTest, TheMostFrequentAnswerWinsHoweverItIsSpelled) {
  EXPECT_THAT(Elect({"The answer is 5", "so \\boxed{\\frac{8}{2}}", "4 apples", "The answer is 5.", "#### 4.0"},
                    {1, 1, 1, 1, 1}),
              ElementsAre(1, 2, 4));
}

TEST(VoteTest, WeightsCount) { EXPECT_THAT(Elect({"1", "1", "2"}, {0.25, 0.25, 0.75}), ElementsAre(2)); }

TEST(VoteTest, OfATieTheAnswerThatComesFirstWins) {
  EXPECT_THAT(Elect({"no answer", "7", "3", "3", "7"}, {1, 1, 1, 1, 1}), ElementsAre(1, 4));
}

TEST(VoteTest, WithoutAnyAnswerAllRemain) { EXPECT_THAT(Elect({"a", "b"}, {1, 0}), ElementsAre(0, 1)); }

}  // namespace
}  // namespace nabla
