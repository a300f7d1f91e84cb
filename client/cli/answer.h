// Finds the number in an answer, and compares numbers.
//
//   ExtractNumber("3 × 4 = 12, so … The answer is $1,234.50.")   // 1234.5
//   SameNumber(7.0, 7.0000001)                                    // true
//
// Pure functions; thread-safe.
#ifndef NABLA_CLIENT_CLI_ANSWER_H_
#define NABLA_CLIENT_CLI_ANSWER_H_

#include <optional>

#include "absl/strings/string_view.h"

namespace nabla {

// The last number behind the last "The answer is" (in any case of letters), or in the whole text where that is missing.
// Thousands separators are read over; a minus sign counts unless it follows a digit, a letter or a closing bracket
// ("5-3" is 5 and 3).
std::optional<double> ExtractNumber(absl::string_view text);

// Equal up to rounding: one part in a million.
bool SameNumber(double a, double b);

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_ANSWER_H_
