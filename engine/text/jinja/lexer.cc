#include "engine/text/jinja/lexer.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/python_text.h"
#include "engine/text/utf8.h"

namespace nabla::jinja {
namespace {

// Line ends become \n, and one at the end of the template is dropped.
std::string NormalizeNewlines(const std::string& source) {
  std::string normalized;
  normalized.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      normalized.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      normalized.push_back(source[i]);
    }
  }
  if (absl::EndsWith(normalized, "\n")) normalized.pop_back();
  return normalized;
}

bool IsNameCharacter(char c) { return absl::ascii_isalnum(c) || c == '_' || static_cast<unsigned char>(c) >= 0x80; }

// Python's "unicode-escape".
std::string Unescape(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out.push_back(text[i]);
      continue;
    }
    const char c = text[++i];
    static constexpr absl::string_view kNames = "abfnrtv\\'\"";
    static constexpr absl::string_view kCharacters = "\a\b\f\n\r\t\v\\'\"";
    const size_t simple = kNames.find(c);
    if (simple != absl::string_view::npos) {
      out.push_back(kCharacters[simple]);
      continue;
    }
    if (c == '\n') continue;
    const bool octal = c >= '0' && c <= '7';
    const size_t most_digits = octal ? 3 : c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    size_t digit = octal ? i : i + 1;
    const size_t end = std::min(text.size(), digit + most_digits);
    const size_t first = digit;
    uint32_t code = 0;
    while (digit < end && (octal ? text[digit] >= '0' && text[digit] <= '7' : absl::ascii_isxdigit(text[digit]))) {
      const char d = absl::ascii_tolower(text[digit++]);
      code = code * (octal ? 8 : 16) + static_cast<uint32_t>(d <= '9' ? d - '0' : d - 'a' + 10);
    }
    const bool complete = most_digits > 0 && (octal || digit - first == most_digits);
    if (complete && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF)) {
      AppendUtf8(code, out);
      i = digit - 1;
    } else {
      out.append({'\\', c});
    }
  }
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (position_ < source_.size()) {
      const size_t tag = FindTag();
      if (tag == std::string::npos) {
        AddText(source_.substr(position_));
        break;
      }
      const char kind = source_[tag + 1];
      const char sign = At(tag + 2);
      AddText(StripBeforeTag(source_.substr(position_, tag - position_), sign, kind != '{'));
      MoveTo(tag + (sign == '-' || sign == '+' ? 3 : 2));
      if (kind == '#') {
        NABLA_RETURN_IF_ERROR(SkipComment());
      } else if (kind == '%' && AtRawBegin()) {
        NABLA_RETURN_IF_ERROR(ReadRaw());
      } else {
        NABLA_RETURN_IF_ERROR(ReadTag(kind == '%'));
      }
    }
    Add(TokenType::kEnd, "");
    return std::move(tokens_);
  }

 private:
  char At(size_t i) const { return i < source_.size() ? source_[i] : '\0'; }
  absl::string_view Rest() const { return absl::string_view(source_).substr(position_); }
  void Add(TokenType type, std::string text) { tokens_.push_back({type, std::move(text), line_}); }
  absl::Status Error(const std::string& message) const {
    return absl::InvalidArgumentError(absl::StrCat("line ", line_, ": ", message));
  }

  void AddText(std::string text) {
    if (!text.empty()) Add(TokenType::kText, std::move(text));
  }

  void MoveTo(size_t position) {
    line_ += static_cast<int>(std::count(source_.begin() + position_, source_.begin() + position, '\n'));
    position_ = position;
  }

  size_t FindTag() const {
    for (size_t i = source_.find('{', position_); i != std::string::npos; i = source_.find('{', i + 1)) {
      const char next = At(i + 1);
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return std::string::npos;
  }

  // What stays of the text before a tag: "-" strips all white space; a block or comment that stands alone on the start
  // of its line strips the indentation (lstrip_blocks), unless "+" keeps it.
  std::string StripBeforeTag(const std::string& text, char sign, bool strips_indentation) const {
    if (sign == '-') return StripText(text, StripSide::kRight, nullptr);
    if (sign == '+' || !strips_indentation) return text;
    const size_t newline = text.rfind('\n');
    if (newline == std::string::npos && !at_line_start_) return text;
    const size_t line_begin = newline == std::string::npos ? 0 : newline + 1;
    const std::string line = text.substr(line_begin);
    return StripText(line, StripSide::kBoth, nullptr).empty() ? text.substr(0, line_begin) : text;
  }

  // Moves behind a tag's end, given where the sign and the closing bracket start; applies "-" and trim_blocks.
  void CloseTag(size_t sign_begin, size_t bracket, bool trims_newline) {
    size_t next = bracket + 2;
    const char sign = sign_begin < bracket ? source_[sign_begin] : '\0';
    if (sign == '-') {
      while (next < source_.size()) {
        const Utf8Character character = DecodeUtf8Character(absl::string_view(source_).substr(next));
        if (!IsPythonSpace(character.code_point)) break;
        next += character.length;
      }
    } else if (sign == '\0' && trims_newline && At(next) == '\n') {
      ++next;
    }
    at_line_start_ = source_[next - 1] == '\n';
    MoveTo(next);
  }

  absl::Status SkipComment() {
    const size_t bracket = source_.find("#}", position_);
    if (bracket == std::string::npos) return Error("the comment is not closed; expected #}");
    const bool has_sign = bracket > position_ && (source_[bracket - 1] == '-' || source_[bracket - 1] == '+');
    CloseTag(has_sign ? bracket - 1 : bracket, bracket, /*trims_newline=*/true);
    return absl::OkStatus();
  }

  // Skips white space, `word`, white space, a sign and "%}" from `position`; npos where something else stands there.
  size_t FindBracketAfterWord(size_t position, absl::string_view word) const {
    while (absl::ascii_isspace(At(position))) ++position;
    if (source_.compare(position, word.size(), word.data(), word.size()) != 0) return std::string::npos;
    position += word.size();
    while (absl::ascii_isspace(At(position))) ++position;
    if (At(position) == '-' || At(position) == '+') ++position;
    return source_.compare(position, 2, "%}") == 0 ? position : std::string::npos;
  }

  size_t SignBefore(size_t bracket) const {
    const char before = source_[bracket - 1];
    return before == '-' || before == '+' ? bracket - 1 : bracket;
  }

  bool AtRawBegin() const { return FindBracketAfterWord(position_, "raw") != std::string::npos; }

  absl::Status ReadRaw() {
    const size_t begin_bracket = FindBracketAfterWord(position_, "raw");
    CloseTag(SignBefore(begin_bracket), begin_bracket, /*trims_newline=*/false);
    for (size_t tag = source_.find("{%", position_); tag != std::string::npos; tag = source_.find("{%", tag + 1)) {
      const char sign = At(tag + 2);
      const size_t bracket = FindBracketAfterWord(tag + (sign == '-' || sign == '+' ? 3 : 2), "endraw");
      if (bracket == std::string::npos) continue;
      AddText(StripBeforeTag(source_.substr(position_, tag - position_), sign, /*strips_indentation=*/true));
      CloseTag(SignBefore(bracket), bracket, /*trims_newline=*/true);
      return absl::OkStatus();
    }
    return Error("the raw block is not closed; expected {% endraw %}");
  }

  absl::Status ReadTag(bool is_block) {
    const absl::string_view close = is_block ? "%}" : "}}";
    const int begin_line = line_;
    Add(is_block ? TokenType::kBlockBegin : TokenType::kPrintBegin, "");
    std::string open_brackets;
    while (position_ < source_.size()) {
      if (open_brackets.empty()) {
        const bool has_sign = source_[position_] == '-' || (is_block && source_[position_] == '+');
        if (absl::StartsWith(Rest().substr(has_sign ? 1 : 0), close)) {
          Add(is_block ? TokenType::kBlockEnd : TokenType::kPrintEnd, "");
          CloseTag(position_, position_ + (has_sign ? 1 : 0), /*trims_newline=*/is_block);
          return absl::OkStatus();
        }
      }
      NABLA_RETURN_IF_ERROR(ReadToken(open_brackets));
    }
    line_ = begin_line;
    return Error(absl::StrCat("the tag is not closed; expected ", close));
  }

  absl::Status ReadToken(std::string& open_brackets) {
    const char c = source_[position_];
    if (absl::ascii_isspace(c)) {
      MoveTo(position_ + 1);
      return absl::OkStatus();
    }
    if (absl::ascii_isdigit(c)) return ReadNumber();
    if (c == '\'' || c == '"') return ReadString(c);
    size_t end = position_;
    while (IsNameCharacter(At(end))) ++end;
    if (end > position_) {
      Add(TokenType::kName, source_.substr(position_, end - position_));
      MoveTo(end);
      return absl::OkStatus();
    }
    return ReadOperator(open_brackets);
  }

  absl::Status ReadNumber() {
    size_t end = position_;
    const auto skip_digits = [this, &end] {
      while (absl::ascii_isdigit(At(end)) || (At(end) == '_' && absl::ascii_isdigit(At(end + 1)))) ++end;
    };
    skip_digits();
    bool is_float = false;
    if (At(end) == '.' && absl::ascii_isdigit(At(end + 1))) {
      is_float = true;
      ++end;
      skip_digits();
    }
    const size_t sign = At(end + 1) == '+' || At(end + 1) == '-' ? 1 : 0;
    if ((At(end) == 'e' || At(end) == 'E') && absl::ascii_isdigit(At(end + 1 + sign))) {
      is_float = true;
      end += 1 + sign;
      skip_digits();
    }
    std::string digits = source_.substr(position_, end - position_);
    digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
    Add(is_float ? TokenType::kFloat : TokenType::kInteger, std::move(digits));
    MoveTo(end);
    return absl::OkStatus();
  }

  absl::Status ReadString(char quote) {
    size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return Error("the string is not closed");
    Add(TokenType::kString, Unescape(absl::string_view(source_).substr(position_ + 1, end - position_ - 1)));
    MoveTo(end + 1);
    return absl::OkStatus();
  }

  absl::Status ReadOperator(std::string& open_brackets) {
    static constexpr absl::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                       "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                       ">",  "<",  "=",  ".",  ":",  "|",  ","};
    const char c = source_[position_];
    if (c == '(' || c == '[' || c == '{') {
      open_brackets.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
      if (open_brackets.empty()) return Error(absl::StrCat("unexpected '", std::string(1, c), "'"));
      if (open_brackets.back() != c) {
        return Error(absl::StrCat("unexpected '", std::string(1, c), "'; expected '",
                                  std::string(1, open_brackets.back()), "'"));
      }
      open_brackets.pop_back();
    }
    for (const absl::string_view op : kOperators) {
      if (!absl::StartsWith(Rest(), op)) continue;
      Add(TokenType::kOperator, std::string(op));
      MoveTo(position_ + op.size());
      return absl::OkStatus();
    }
    return Error(absl::StrCat("unexpected character '", std::string(1, c), "'"));
  }

  std::string source_;
  size_t position_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(const std::string& source) {
  return Lexer(NormalizeNewlines(source)).Run();
}

}  // namespace nabla::jinja
