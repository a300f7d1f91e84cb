#include "engine/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/utf8.h"

namespace nabla {
namespace {

// White_Space and its complement as members of a character class. PCRE2's own \s also matches U+180E.
constexpr char kSpaceMembers[] =
    "\\x{09}-\\x{0D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
constexpr char kNonSpaceMembers[] =
    "\\x{00}-\\x{08}\\x{0E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{"
    "2027}"
    "\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{D7FF}\\x{E000}-\\x{10FFFF}";

// Spells out the escapes that mean something else in PCRE2.
std::string TranslateFromOniguruma(const std::string& pattern) {
  std::string translated;
  int class_depth = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c != '\\' || i + 1 == pattern.size()) {
      if (c == '[') ++class_depth;
      if (c == ']' && class_depth > 0) --class_depth;
      translated.push_back(c);
      continue;
    }
    const char escaped = pattern[++i];
    if (escaped != 's' && escaped != 'S') {
      translated.append({'\\', escaped});
      continue;
    }
    const char* members = escaped == 's' ? kSpaceMembers : kNonSpaceMembers;
    absl::StrAppend(&translated, class_depth > 0 ? "" : "[", members, class_depth > 0 ? "" : "]");
  }
  return translated;
}

}  // namespace

absl::StatusOr<Regex> Regex::Create(const std::string& pattern) { return Compile(TranslateFromOniguruma(pattern), 0); }

absl::StatusOr<Regex> Regex::CreateLiteral(const std::string& text) { return Compile(text, PCRE2_LITERAL); }

absl::StatusOr<Regex> Regex::FromJson(const JsonField& field) {
  if (!field.Get("String").IsNull()) {
    NABLA_ASSIGN_OR_RETURN(const std::string text, field.Get("String").String());
    return CreateLiteral(text);
  }
  if (field.Get("Regex").IsNull()) return field.Error("expected {\"Regex\": ...} or {\"String\": ...}");
  NABLA_ASSIGN_OR_RETURN(const std::string pattern, field.Get("Regex").String());
  absl::StatusOr<Regex> regex = Create(pattern);
  if (!regex.ok()) return field.Get("Regex").Error(std::string(regex.status().message()));
  return regex;
}

absl::StatusOr<Regex> Regex::Compile(const std::string& pattern, uint32_t options) {
  options |= PCRE2_UTF | ((options & PCRE2_LITERAL) != 0 ? 0 : PCRE2_UCP);
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &error,
                                   &error_offset, nullptr);
  if (code == nullptr) {
    PCRE2_UCHAR message[256];
    pcre2_get_error_message(error, message, sizeof(message));
    return absl::InvalidArgumentError(
        absl::StrCat("not a regular expression: ", reinterpret_cast<const char*>(message), " at byte ", error_offset));
  }
  // Where the JIT is not available matching is only slower.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  Regex regex;
  regex.code_ =
      std::shared_ptr<const pcre2_code>(code, [](const pcre2_code* c) { pcre2_code_free(const_cast<pcre2_code*>(c)); });
  return regex;
}

Regex::Matcher::Matcher(const Regex& regex, absl::string_view text)
    : code_(regex.code_.get()),
      text_(text),
      match_data_(pcre2_match_data_create_from_pattern(code_, nullptr), pcre2_match_data_free) {}

bool Regex::Matcher::MatchFrom(size_t start) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
  // Checking UTF-8 anew at every match would make a pass quadratic.
  int result = pcre2_match(code_, subject, text_.size(), start, PCRE2_NO_UTF_CHECK, match_data_.get(), nullptr);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
    result =
        pcre2_match(code_, subject, text_.size(), start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match_data_.get(), nullptr);
  }
  // A match that exceeds PCRE2's limits counts as none: the rest of the text is then one piece, still encodable.
  if (result < 0) return false;
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(match_data_.get());
  begin_ = offsets[0];
  end_ = offsets[1];
  return true;
}

bool Regex::Matcher::Next() {
  while (search_from_ <= text_.size()) {
    const size_t previous_end = end_;
    if (!MatchFrom(search_from_)) {
      search_from_ = text_.size() + 1;
      return false;
    }
    if (begin_ != end_) {
      search_from_ = end_;
      matched_before_ = true;
      return true;
    }
    // An empty match: go on one character further, and skip it where it touches the match before.
    search_from_ = end_ == text_.size() ? end_ + 1 : end_ + DecodeUtf8Character(text_.substr(end_)).length;
    if (!matched_before_ || begin_ != previous_end) {
      matched_before_ = true;
      return true;
    }
  }
  return false;
}

}  // namespace nabla
