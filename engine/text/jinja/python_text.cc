#include "engine/text/jinja/python_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/text/utf8.h"

namespace nabla::jinja {
namespace {

utf8proc_category_t Category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool IsCased(char32_t c) {
  const utf8proc_category_t category = Category(c);
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
}

void AppendUpper(char32_t c, bool title, std::u32string& out) {
  if (c == 0xDF) {
    out.append(title ? U"Ss" : U"SS");
    return;
  }
  const auto code = static_cast<utf8proc_int32_t>(c);
  out.push_back(static_cast<char32_t>(title ? utf8proc_totitle(code) : utf8proc_toupper(code)));
}

void AppendLower(char32_t c, std::u32string& out) {
  if (c == 0x130) {
    out.append(U"i\u0307");
    return;
  }
  out.push_back(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

bool IsPrintable(char32_t c) {
  if (c == ' ') return true;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

}  // namespace

std::u32string ToCodePoints(const std::string& text) {
  std::u32string code_points;
  code_points.reserve(text.size());
  absl::string_view rest = text;
  while (!rest.empty()) {
    const Utf8Character character = DecodeUtf8Character(rest);
    code_points.push_back(character.code_point);
    rest.remove_prefix(character.length);
  }
  return code_points;
}

std::string FromCodePoints(const std::u32string& code_points) {
  std::string text;
  text.reserve(code_points.size());
  for (const char32_t c : code_points) AppendUtf8(c, text);
  return text;
}

int64_t CountCharacters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

bool IsPythonSpace(char32_t c) { return IsUnicodeWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

std::string StripText(const std::string& text, StripSide side, const std::string* characters) {
  const std::u32string code_points = ToCodePoints(text);
  const std::u32string stripped = characters == nullptr ? std::u32string() : ToCodePoints(*characters);
  const auto strips = [&](char32_t c) {
    return characters == nullptr ? IsPythonSpace(c) : stripped.find(c) != std::u32string::npos;
  };
  size_t begin = 0;
  size_t end = code_points.size();
  if (side != StripSide::kRight) {
    while (begin < end && strips(code_points[begin])) ++begin;
  }
  if (side != StripSide::kLeft) {
    while (end > begin && strips(code_points[end - 1])) --end;
  }
  return FromCodePoints(code_points.substr(begin, end - begin));
}

std::vector<std::string> SplitText(const std::string& text, const std::string* separator, int64_t limit) {
  std::vector<std::string> parts;
  if (separator != nullptr) {
    size_t begin = 0;
    while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
      const size_t found = text.find(*separator, begin);
      if (found == std::string::npos) break;
      parts.push_back(text.substr(begin, found - begin));
      begin = found + separator->size();
    }
    parts.push_back(text.substr(begin));
    return parts;
  }
  const std::u32string code_points = ToCodePoints(text);
  size_t position = 0;
  while (true) {
    while (position < code_points.size() && IsPythonSpace(code_points[position])) ++position;
    if (position == code_points.size()) return parts;
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.push_back(FromCodePoints(code_points.substr(position)));
      return parts;
    }
    const size_t begin = position;
    while (position < code_points.size() && !IsPythonSpace(code_points[position])) ++position;
    parts.push_back(FromCodePoints(code_points.substr(begin, position - begin)));
  }
}

std::vector<std::string> SplitTextFromRight(const std::string& text, const std::string& separator, int64_t limit) {
  std::vector<std::string> parts;
  size_t end = text.size();
  while ((limit < 0 || static_cast<int64_t>(parts.size()) < limit) && end >= separator.size()) {
    const size_t found = text.rfind(separator, end - separator.size());
    if (found == std::string::npos) break;
    parts.push_back(text.substr(found + separator.size(), end - found - separator.size()));
    end = found;
  }
  parts.push_back(text.substr(0, end));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> SplitLines(const std::string& text, bool keep_ends) {
  const auto ends_line = [](char32_t c) {
    return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
  };
  const std::u32string code_points = ToCodePoints(text);
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t i = 0; i < code_points.size(); ++i) {
    if (!ends_line(code_points[i])) continue;
    const size_t end = i;
    if (code_points[i] == '\r' && i + 1 < code_points.size() && code_points[i + 1] == '\n') ++i;
    lines.push_back(FromCodePoints(code_points.substr(begin, (keep_ends ? i + 1 : end) - begin)));
    begin = i + 1;
  }
  if (begin < code_points.size()) lines.push_back(FromCodePoints(code_points.substr(begin)));
  return lines;
}

std::string ToUpper(const std::string& text) {
  std::u32string upper;
  for (const char32_t c : ToCodePoints(text)) AppendUpper(c, /*title=*/false, upper);
  return FromCodePoints(upper);
}

std::string ToLower(const std::string& text) {
  std::u32string lower;
  for (const char32_t c : ToCodePoints(text)) AppendLower(c, lower);
  return FromCodePoints(lower);
}

std::string ToTitle(const std::string& text) {
  std::u32string title;
  bool in_word = false;
  for (const char32_t c : ToCodePoints(text)) {
    if (in_word) {
      AppendLower(c, title);
    } else {
      AppendUpper(c, /*title=*/true, title);
    }
    in_word = IsCased(c);
  }
  return FromCodePoints(title);
}

std::string Capitalize(const std::string& text) {
  std::u32string capitalized;
  for (const char32_t c : ToCodePoints(text)) {
    if (capitalized.empty()) {
      AppendUpper(c, /*title=*/true, capitalized);
    } else {
      AppendLower(c, capitalized);
    }
  }
  return FromCodePoints(capitalized);
}

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  // The fewest digits that read back as the same number.
  std::string scientific;
  for (int precision = 0; precision <= 16; ++precision) {
    scientific = absl::StrFormat("%.*e", precision, value);
    if (std::strtod(scientific.c_str(), nullptr) == value) break;
  }
  const size_t e = scientific.find('e');
  const int exponent = std::atoi(scientific.c_str() + e + 1);
  const std::string sign = scientific[0] == '-' ? "-" : "";
  std::string digits;
  for (const char c : scientific.substr(0, e)) {
    if (c >= '0' && c <= '9') digits.push_back(c);
  }
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    const std::string fraction = count > 1 ? absl::StrCat(".", digits.substr(1)) : "";
    return absl::StrFormat("%s%c%se%c%02d", sign, digits[0], fraction, exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return absl::StrCat(sign, "0.", std::string(-exponent - 1, '0'), digits);
  if (count <= exponent + 1) return absl::StrCat(sign, digits, std::string(exponent + 1 - count, '0'), ".0");
  return absl::StrCat(sign, digits.substr(0, exponent + 1), ".", digits.substr(exponent + 1));
}

std::string StringRepr(const std::string& text) {
  const bool double_quoted = text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
  const char quote = double_quoted ? '"' : '\'';
  std::string repr(1, quote);
  for (const char32_t c : ToCodePoints(text)) {
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      repr.push_back('\\');
      repr.push_back(static_cast<char>(c));
    } else if (c == '\n') {
      repr.append("\\n");
    } else if (c == '\r') {
      repr.append("\\r");
    } else if (c == '\t') {
      repr.append("\\t");
    } else if (IsPrintable(c)) {
      AppendUtf8(c, repr);
    } else if (c < 0x100) {
      repr.append(absl::StrFormat("\\x%02x", static_cast<uint32_t>(c)));
    } else if (c < 0x10000) {
      repr.append(absl::StrFormat("\\u%04x", static_cast<uint32_t>(c)));
    } else {
      repr.append(absl::StrFormat("\\U%08x", static_cast<uint32_t>(c)));
    }
  }
  repr.push_back(quote);
  return repr;
}

}  // namespace nabla::jinja
