#include "client/cli/answer.h"

#include <gtest/gtest.h>

#include <utility>

namespace nabla {
namespace {

TEST(AnswerTest, FindsTheLastNumber) {
  const std::pair<const char*, double> cases[] = {
      {"42", 42},
      {"2 + 3 = 5", 5},
      {"First 7.\nThe answer is 15. ", 15},
      {"THE ANSWER IS: $1,234.50.", 1234.5},
      {"The answer is 3. No: the answer is 4", 4},
      {"#### 72", 72},
      {"-3", -3},
      {"it is -3.25", -3.25},
      {"-$5", -5},
      {"5-3", 3},
      {"(5)-3", 3},
      {"x = -1,000,000", -1000000},
      {"1,2,3", 3},
      {"12,3456", 3456},
      {"version 1.", 1},
      {"100%", 100},
  };
  for (const auto& [text, number] : cases) {
    ASSERT_TRUE(ExtractNumber(text).has_value()) << text;
    EXPECT_DOUBLE_EQ(*ExtractNumber(text), number) << text;
  }
}

TEST(AnswerTest, NumbersInFrontOfTheMarkerDoNotCount) {
  EXPECT_FALSE(ExtractNumber("2 + 3: the answer is five").has_value());
}

TEST(AnswerTest, NoNumberIsNothing) {
  EXPECT_FALSE(ExtractNumber("").has_value());
  EXPECT_FALSE(ExtractNumber("none - at all, .").has_value());
}

TEST(AnswerTest, NumbersAreComparedUpToRounding) {
  EXPECT_TRUE(SameNumber(7, 7.0000001));
  EXPECT_TRUE(SameNumber(1e9, 1e9 + 1));
  EXPECT_FALSE(SameNumber(7, 7.001));
  EXPECT_FALSE(SameNumber(0, 1e-3));
}

}  // namespace
}  // namespace nabla
