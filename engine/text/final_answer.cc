#include "engine/text/final_answer.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace nabla {
namespace {

constexpr char kMarker[] = "the answer is";
constexpr char kHashes[] = "####";
constexpr char kBoxed[] = "\\boxed{";

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

// The last number of a text, and what it was written as.
std::optional<FinalAnswer> LastNumber(absl::string_view text) {
  std::optional<FinalAnswer> last;
  for (size_t i = 0; i < text.size();) {
    if (!IsDigitAt(text, i)) {
      ++i;
      continue;
    }
    const size_t begin = i;
    const double number = ReadNumber(text, &i);
    last = FinalAnswer{.text = std::string(text.substr(begin, i - begin)), .number = number};
  }
  return last;
}

// Where the brace that text[open] opens is closed; npos if it is not.
size_t ClosingBrace(absl::string_view text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    if (text[i] == '{') ++depth;
    if (text[i] == '}' && --depth == 0) return i;
  }
  return absl::string_view::npos;
}

// What stands in the last \boxed{…} or \fbox{…} that is closed.
std::optional<absl::string_view> LastBoxed(absl::string_view text) {
  std::optional<absl::string_view> found;
  for (const absl::string_view command : {kBoxed, "\\fbox{"}) {
    for (size_t at = text.find(command); at != absl::string_view::npos; at = text.find(command, at + 1)) {
      const size_t open = at + command.size() - 1, close = ClosingBrace(text, open);
      if (close == absl::string_view::npos) continue;
      const absl::string_view inside = text.substr(open + 1, close - open - 1);
      if (!found.has_value() || inside.data() > found->data()) found = inside;
    }
  }
  return found;
}

// Without the commands and marks that change how an answer looks and not what it says.
std::string UniformSpelling(absl::string_view answer) {
  std::string text = absl::StrReplaceAll(
      answer, {{"\\left", ""},        {"\\right", ""}, {"\\!", ""},      {"\\,", ""},       {"\\;", ""},
               {"\\ ", ""},           {"\\$", ""},     {"$", ""},        {"\\%", "%"},      {"\\dfrac", "\\frac"},
               {"\\tfrac", "\\frac"}, {"\\cdot", "*"}, {"\\times", "*"}, {"^{\\circ}", ""}, {"^\\circ", ""},
               {"\\circ", ""},        {"°", ""},       {"\\(", ""},      {"\\)", ""},       {"\\[", ""},
               {"\\]", ""},           {"−", "-"}});
  for (const std::string wrapper : {"\\text{", "\\mbox{", "\\mathrm{", "\\textbf{"}) {
    for (size_t at = text.find(wrapper); at != std::string::npos; at = text.find(wrapper)) {
      const size_t close = ClosingBrace(text, at + wrapper.size() - 1);
      if (close == absl::string_view::npos) break;
      text.erase(close, 1);
      text.erase(at, wrapper.size());
    }
  }
  text.erase(std::remove_if(text.begin(), text.end(), absl::ascii_isspace), text.end());
  for (size_t at = text.find("{"); at != std::string::npos; at = text.find("{", at + 1)) {  // x^{2}, \frac{1}2
    if (at + 2 < text.size() && text[at + 2] == '}' && at > 0 && text[at - 1] == '^')
      text.erase(at + 2, 1).erase(at, 1);
  }
  while (!text.empty() && (text.back() == '.' || text.back() == ',')) text.pop_back();
  const size_t equals = text.rfind('=');  // "x = 5" says 5
  if (equals != std::string::npos && equals <= 2) text.erase(0, equals + 1);
  return text;
}

// The number that the whole text is, apart from a unit or a per cent sign behind it.
std::optional<double> NumberAlone(absl::string_view text) {
  size_t i = 0;
  while (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
  if (i > 1 || !IsDigitAt(text, i)) return std::nullopt;
  const double number = ReadNumber(text, &i);
  const absl::string_view unit = text.substr(i);
  if (std::any_of(unit.begin(), unit.end(), [](char c) { return !absl::ascii_isalpha(c) && c != '%'; })) {
    return std::nullopt;
  }
  // One letter, or a letter of a power, may be a variable.
  if (unit.size() == 1 && unit != "%" && unit != "m" && unit != "g" && unit != "s") return std::nullopt;
  return number;
}

// "3/4", "-\frac{3}{4}", "\frac34"; nothing for anything else.
std::optional<double> Fraction(absl::string_view text) {
  double sign = 1;
  if (absl::ConsumePrefix(&text, "-")) sign = -1;
  absl::string_view numerator, denominator;
  if (absl::ConsumePrefix(&text, "\\frac")) {
    const auto take = [&text](absl::string_view& part) {
      if (text.empty()) return false;
      const size_t close = text[0] == '{' ? ClosingBrace(text, 0) : 0;
      if (close == absl::string_view::npos) return false;
      part = text[0] == '{' ? text.substr(1, close - 1) : text.substr(0, 1);
      text.remove_prefix(close + 1);
      return true;
    };
    if (!take(numerator) || !take(denominator) || !text.empty()) return std::nullopt;
  } else {
    const size_t slash = text.find('/');
    if (slash == absl::string_view::npos) return std::nullopt;
    numerator = text.substr(0, slash), denominator = text.substr(slash + 1);
  }
  const std::optional<double> above = NumberAlone(numerator), below = NumberAlone(denominator);
  if (!above.has_value() || !below.has_value() || *below == 0) return std::nullopt;
  return sign * *above / *below;
}

}  // namespace

FinalAnswer ParseAnswer(absl::string_view text) {
  FinalAnswer answer{.text = UniformSpelling(text)};
  answer.number = NumberAlone(answer.text);
  if (!answer.number.has_value()) answer.number = Fraction(answer.text);
  return answer;
}

bool MarksFinalAnswer(absl::string_view text) {
  return absl::StrContains(text, kBoxed) || absl::StrContains(text, kHashes) ||
         absl::StrContains(absl::AsciiStrToLower(text), kMarker);
}

std::optional<FinalAnswer> ExtractFinalAnswer(absl::string_view text) {
  if (const std::optional<absl::string_view> boxed = LastBoxed(text)) return ParseAnswer(*boxed);
  if (const size_t hashes = text.rfind(kHashes); hashes != absl::string_view::npos) {
    const absl::string_view behind = text.substr(hashes + sizeof(kHashes) - 1);
    return ParseAnswer(behind.substr(0, behind.find('\n')));
  }
  const size_t marker = absl::AsciiStrToLower(text).rfind(kMarker);
  if (marker == std::string::npos) return LastNumber(text);
  absl::string_view behind = text.substr(marker + sizeof(kMarker) - 1);
  absl::ConsumePrefix(&behind, ":");
  behind = absl::StripAsciiWhitespace(behind.substr(0, behind.find('\n')));
  const FinalAnswer whole = ParseAnswer(behind);
  if (whole.number.has_value()) return whole;
  if (std::optional<FinalAnswer> number = LastNumber(behind)) return number;
  if (whole.text.empty()) return std::nullopt;
  return ParseAnswer(behind.substr(0, behind.find(". ")));
}

bool SameAnswer(const FinalAnswer& a, const FinalAnswer& b) {
  if (!a.number.has_value() || !b.number.has_value()) return a.text == b.text;
  constexpr double kTolerance = 1e-6;
  return std::abs(*a.number - *b.number) <= kTolerance * std::max({1.0, std::abs(*a.number), std::abs(*b.number)});
}

}  // namespace nabla
