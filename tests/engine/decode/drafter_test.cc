#include "engine/decode/drafter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nabla {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::vector<int32_t> kEarlier = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19};

TEST(DrafterTest, RepeatsTheEarlierTailBehindAReplacedToken) {
  Drafter drafter(kEarlier, 2, 6);
  std::vector<int32_t> response = {10, 11};
  EXPECT_THAT(drafter.Next(response, 100), ElementsAre(12, 13, 14)) << "half of what is allowed to begin with";
  response.push_back(99);
  EXPECT_THAT(drafter.Next(response, 100), ElementsAre(13)) << "less sure than before";
}

TEST(DrafterTest, FindsTheEarlierTextElsewhere) {
  Drafter drafter(kEarlier, 2, 6);
  EXPECT_THAT(drafter.Next({{10, 11, 14, 15}}, 100), ElementsAre(16)) << "some tokens were left out";
  Drafter back(kEarlier, 6, 6);
  EXPECT_THAT(back.Next({{10, 11, 12, 13, 14, 15, 11, 12}}, 100), ElementsAre(13)) << "some were put in";
}

TEST(DrafterTest, DraftsGrowWithAgreementAndShrinkWithout) {
  Drafter drafter(kEarlier, 0, 6);
  std::vector<int32_t> response = {10, 11};
  EXPECT_EQ(drafter.Next(response, 100).size(), 5);
  response.push_back(12);
  EXPECT_EQ(drafter.Next(response, 100).size(), 6);
  response.push_back(50);
  EXPECT_EQ(drafter.Next(response, 100).size(), 3);
  response.insert(response.end(), {51, 52, 53});
  EXPECT_EQ(drafter.Next(response, 100).size(), 1) << "never none: the text may come back";
}

TEST(DrafterTest, StopsAtTheEndsOfTextAndRoom) {
  Drafter drafter(kEarlier, 8, 6);
  std::vector<int32_t> response(kEarlier.begin(), kEarlier.begin() + 8);
  EXPECT_THAT(drafter.Next(response, 1), ElementsAre(18));
  EXPECT_THAT(drafter.Next(response, 0), IsEmpty());
  EXPECT_THAT(drafter.Next(response, 100), ElementsAre(18, 19));
  response.insert(response.end(), {50, 51, 52});
  EXPECT_THAT(drafter.Next(response, 100), IsEmpty());
}

TEST(IsClearGuessTest, WantsNoOtherLogitNearby) {
  EXPECT_TRUE(IsClearGuess({{1.0F, 3.0F, 2.7F}}, 1));
  EXPECT_FALSE(IsClearGuess({{1.0F, 3.0F, 2.9F}}, 1));
  EXPECT_FALSE(IsClearGuess({{3.0F, 3.0F, 1.0F}}, 0)) << "equal";
  EXPECT_TRUE(IsClearGuess({{-5.0F}}, 0)) << "nothing else to say";
}

}  // namespace
}  // namespace nabla
