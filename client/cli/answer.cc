#include "client/cli/answer.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace nabla {
namespace {

constexpr char kMarker[] = "the answer is";

bool IsDigitAt(absl::string_view text, size_t i) { return i < text.size() && absl::ascii_isdigit(text[i]); }

// "1,234": a comma between a digit and three digits that no fourth follows.
bool IsThousandsSeparator(absl::string_view text, size_t i) {
  return text[i] == ',' && IsDigitAt(text, i + 1) && IsDigitAt(text, i + 2) && IsDigitAt(text, i + 3) &&
         !IsDigitAt(text, i + 4);
}

bool IsNegative(absl::string_view text, size_t first_digit) {
  if (first_digit > 0 && text[first_digit - 1] == '$') --first_digit;  // "-$5"
  if (first_digit == 0 || text[first_digit - 1] != '-') return false;
  if (first_digit == 1) return true;
  const char before = text[first_digit - 2];
  return !absl::ascii_isalnum(before) && before != ')' && before != ']';
}

// Reads the number that starts at *i and moves *i behind it.
double ReadNumber(absl::string_view text, size_t* i) {
  std::string digits = IsNegative(text, *i) ? "-" : "";
  while (IsDigitAt(text, *i) || (*i < text.size() && IsThousandsSeparator(text, *i))) {
    if (text[*i] != ',') digits.push_back(text[*i]);
    ++*i;
  }
  if (*i < text.size() && text[*i] == '.' && IsDigitAt(text, *i + 1)) {
    digits.push_back('.');
    for (++*i; IsDigitAt(text, *i); ++*i) digits.push_back(text[*i]);
  }
  double value = 0;
  if (!absl::SimpleAtod(digits, &value)) value = std::nan("");
  return value;
}

}  // namespace

std::optional<double> ExtractNumber(absl::string_view text) {
  const size_t marker = absl::AsciiStrToLower(text).rfind(kMarker);
  if (marker != std::string::npos) text.remove_prefix(marker + sizeof(kMarker) - 1);
  std::optional<double> last;
  for (size_t i = 0; i < text.size();) {
    if (IsDigitAt(text, i)) {
      last = ReadNumber(text, &i);
    } else {
      ++i;
    }
  }
  return last;
}

bool SameNumber(double a, double b) {
  constexpr double kTolerance = 1e-6;
  return std::abs(a - b) <= kTolerance * std::max({1.0, std::abs(a), std::abs(b)});
}

}  // namespace nabla
