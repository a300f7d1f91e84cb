#include "engine/text/final_answer.h"

#include <gtest/gtest.h>

#include <utility>

namespace nabla {
namespace {

TEST(FinalAnswerTest, FindsTheLastNumber) {
  const std::pair<const char*, double> cases[] = {
      {"42", 42},
      {"2 + 3 = 5", 5},
      {"First 7.\nThe answer is 15. ", 15},
      {"THE ANSWER IS: $1,234.50.", 1234.5},
      {"The answer is 3. No: the answer is 4", 4},
      {"Half of it. #### 72", 72},
      {"#### 1,200\n", 1200},
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
      {"so $x = \\boxed{17}$, not 18.", 17},
      {"\\boxed{1} and then \\boxed{\\dfrac{3}{4}}.", 0.75},
      {"\\boxed{2} \\boxed{open", 2},
      {"The answer is 3/4.", 0.75},
      {"The answer is $\\frac{-1}{2}$.", -0.5},
      {"The answer is 12 apples.", 12},
  };
  for (const auto& [text, number] : cases) {
    const auto answer = ExtractFinalAnswer(text);
    ASSERT_TRUE(answer.has_value() && answer->number.has_value()) << text;
    EXPECT_DOUBLE_EQ(*answer->number, number) << text;
  }
}

TEST(FinalAnswerTest, AnswersNeedNotBeNumbers) {
  EXPECT_EQ(ExtractFinalAnswer("2 + 3: the answer is five. Or so.")->text, "five");
  EXPECT_EQ(ExtractFinalAnswer("\\boxed{x^2 + \\text{ one }}")->text, "x^2+one");
  EXPECT_FALSE(ExtractFinalAnswer("\\boxed{(3, 4)}")->number.has_value());
}

TEST(FinalAnswerTest, NoAnswerIsNothing) {
  EXPECT_FALSE(ExtractFinalAnswer("").has_value());
  EXPECT_FALSE(ExtractFinalAnswer("none - at all, .").has_value());
  EXPECT_FALSE(ExtractFinalAnswer("The answer is").has_value());
}

bool Same(const char* a, const char* b) { return SameAnswer(ParseAnswer(a), ParseAnswer(b)); }

TEST(FinalAnswerTest, SpellingsOfTheSameAnswerAreEqual) {
  const std::pair<const char*, const char*> cases[] = {
      {"7", "7.0000001"},
      {"1000000000", "1000000001"},
      {"1,234", "1234"},
      {"\\frac{3}{4}", "0.75"},
      {"\\frac34", "3/4"},
      {"\\dfrac{3}{4}", "\\tfrac{3}{4}"},
      {"-\\frac{1}{2}", "-0.5"},
      {"90^\\circ", "90"},
      {"90^{\\circ}", "90°"},
      {"x=5", "5"},
      {"12\\text{ cm}", "12"},
      {"50\\%", "50"},
      {"\\$18.90", "18.9"},
      {"x^{2}+1", "x^2 + 1"},
      {"\\left(3, 4\\right)", "(3,4)"},
      {"\\text{Evelyn}", "Evelyn"},
      {"10,\\!000", "10000"},
  };
  for (const auto& [a, b] : cases) EXPECT_TRUE(Same(a, b)) << a << " " << b;
}

TEST(FinalAnswerTest, DifferentAnswersAreNot) {
  const std::pair<const char*, const char*> cases[] = {
      {"7", "7.001"}, {"0", "0.001"},  {"3/4", "4/3"}, {"5", "-5"},        {"2x", "2"},
      {"x^2", "x^3"}, {"(3,4)", "34"}, {"1/0", "1"},   {"\\sqrt{2}", "2"},
  };
  for (const auto& [a, b] : cases) EXPECT_FALSE(Same(a, b)) << a << " " << b;
}

}  // namespace
}  // namespace nabla
