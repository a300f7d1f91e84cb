// Strings as Python has them, for template values: operations count characters, not bytes, and know Unicode white space
// and case. Pure functions over valid UTF-8; never fail.
//
//   StripText("\u00a0x ", StripSide::kBoth, nullptr);  // "x"
//   FloatRepr(0.1);                                    // "0.1"
//   StringRepr("it's");                                // "\"it's\""
#ifndef NABLA_ENGINE_TEXT_JINJA_PYTHON_TEXT_H_
#define NABLA_ENGINE_TEXT_JINJA_PYTHON_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace nabla::jinja {

std::u32string ToCodePoints(const std::string& text);
std::string FromCodePoints(const std::u32string& code_points);
int64_t CountCharacters(const std::string& text);

// str.isspace of one character.
bool IsPythonSpace(char32_t c);

enum class StripSide { kLeft, kRight, kBoth };
// `characters` null: white space.
std::string StripText(const std::string& text, StripSide side, const std::string* characters);

// str.split and str.rsplit; `separator` null: runs of white space. `limit` -1: no limit.
std::vector<std::string> SplitText(const std::string& text, const std::string* separator, int64_t limit);
std::vector<std::string> SplitTextFromRight(const std::string& text, const std::string& separator, int64_t limit);
std::vector<std::string> SplitLines(const std::string& text, bool keep_ends);

std::string ToUpper(const std::string& text);
std::string ToLower(const std::string& text);
std::string ToTitle(const std::string& text);
std::string Capitalize(const std::string& text);

// repr() of a float and of a str.
std::string FloatRepr(double value);
std::string StringRepr(const std::string& text);

}  // namespace nabla::jinja

#endif  // NABLA_ENGINE_TEXT_JINJA_PYTHON_TEXT_H_
