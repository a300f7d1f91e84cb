// Finds the final answer in a response to a question of mathematics, and compares answers.
//
//   ExtractFinalAnswer("3 × 4 = 12, so … The answer is $1,234.50.")->number        // 1234.5
//   ExtractFinalAnswer("… so it is $\\boxed{\\frac{3}{4}}$.")->number               // 0.75
//   SameAnswer(ParseAnswer("x^2 + 1"), ParseAnswer("x^{2}+1"))                       // true
//
// Not computer algebra: numbers are compared as numbers, all else as text once its spelling has been made uniform. Pure
// functions; thread-safe.
#ifndef NABLA_ENGINE_TEXT_FINAL_ANSWER_H_
#define NABLA_ENGINE_TEXT_FINAL_ANSWER_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace nabla {

struct FinalAnswer {
  std::string text;  // spelled uniformly
  std::optional<double>
      number;  // where it is one: decimal, with separators of thousands, fraction, per cent as it stands
};

// What stands in the last \boxed{…}; else behind the last "####"; else the last number behind the last "The answer is"
// (in any case of letters), or what stands there up to the end of the sentence if there is no number; else the last
// number of all. Nothing where none of these is there. A minus sign counts unless it follows a digit, a letter or a
// closing bracket ("5-3" is 5 and 3).
std::optional<FinalAnswer> ExtractFinalAnswer(absl::string_view text);

// Whether the text has one of these three marks, or is only a text in which numbers may occur.
bool MarksFinalAnswer(absl::string_view text);

// The whole text as an answer, such as a data set's own: "\\dfrac{3}{4}", "3/4", "1,234 m", "90^\\circ", "x+1".
FinalAnswer ParseAnswer(absl::string_view text);

// Equal numbers up to rounding (one part in a million), or equal texts.
bool SameAnswer(const FinalAnswer& a, const FinalAnswer& b);

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_FINAL_ANSWER_H_
