#include "engine/text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/text/utf8.h"

namespace nabla {
namespace {

struct Range {
  char32_t first;
  char32_t last;
};

// Characters with a decomposition or a combining class that the Unicode version of Hugging Face's normalisers does not
// know: it leaves them as they are and where they are, and so do we.
constexpr Range kUnknownToReference[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785},
    {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
    {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C},
    {0x1FBF0, 0x1FBF9},
};

bool IsUnknownToReference(char32_t c) {
  const auto* range = std::lower_bound(std::begin(kUnknownToReference), std::end(kUnknownToReference), c,
                                       [](const Range& r, char32_t value) { return r.last < value; });
  return range != std::end(kUnknownToReference) && range->first <= c;
}

std::string ToUnicodeForm(absl::string_view text, bool compose, bool compatibility) {
  int options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
  if (compatibility) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &mapped, static_cast<utf8proc_option_t>(options));
  // Fails only for text that is not UTF-8, which Tokenizer::Encode has replaced.
  if (length < 0) return std::string(text);
  std::string normalized(reinterpret_cast<const char*>(mapped), static_cast<size_t>(length));
  std::free(mapped);
  return normalized;
}

// As ToUnicodeForm, between the characters unknown to the reference.
std::string ToReferenceForm(absl::string_view text, bool compose, bool compatibility) {
  std::string normalized;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const Utf8Character character = DecodeUtf8Character(text.substr(i));
    if (IsUnknownToReference(character.code_point)) {
      normalized.append(ToUnicodeForm(text.substr(begin, i - begin), compose, compatibility));
      normalized.append(text.data() + i, character.length);
      begin = i + character.length;
    }
    i += character.length;
  }
  return normalized.append(ToUnicodeForm(text.substr(begin), compose, compatibility));
}

std::string ToLowercase(absl::string_view text) {
  std::string lower;
  lower.reserve(text.size());
  while (!text.empty()) {
    const Utf8Character character = DecodeUtf8Character(text);
    text.remove_prefix(character.length);
    // The one character whose lower case is two: I with a dot becomes i and a combining dot.
    if (character.code_point == 0x130) {
      lower.append("i\u0307");
    } else {
      AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(character.code_point))), lower);
    }
  }
  return lower;
}

std::string ReplaceAll(const std::string& text, const Regex& pattern, const std::string& content) {
  std::string replaced;
  size_t copied = 0;
  Regex::Matcher matcher(pattern, text);
  while (matcher.Next()) {
    replaced.append(text, copied, matcher.begin() - copied);
    replaced.append(content);
    copied = matcher.end();
  }
  replaced.append(text, copied, std::string::npos);
  return replaced;
}

}  // namespace

absl::StatusOr<Normalizer> Normalizer::FromJson(const JsonField& field) {
  Normalizer normalizer;
  if (!field.IsNull()) NABLA_RETURN_IF_ERROR(normalizer.AddSteps(field));
  return normalizer;
}

absl::Status Normalizer::AddSteps(const JsonField& field) {
  NABLA_ASSIGN_OR_RETURN(const std::string type, field.Get("type").String());
  if (type == "Sequence") {
    NABLA_ASSIGN_OR_RETURN(const std::vector<JsonField> items, field.Get("normalizers").Items());
    for (const JsonField& item : items) NABLA_RETURN_IF_ERROR(AddSteps(item));
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    steps_.push_back(UnicodeForm{.compose = type.back() == 'C', .compatibility = type.size() == 4});
  } else if (type == "Lowercase") {
    steps_.push_back(Lowercase{});
  } else if (type == "Prepend") {
    NABLA_ASSIGN_OR_RETURN(std::string prefix, field.Get("prepend").String());
    steps_.push_back(Prepend{std::move(prefix)});
  } else if (type == "Replace") {
    NABLA_ASSIGN_OR_RETURN(Regex pattern, Regex::FromJson(field.Get("pattern")));
    NABLA_ASSIGN_OR_RETURN(std::string content, field.Get("content").String());
    steps_.push_back(Replace{std::move(pattern), std::move(content)});
  } else {
    return field.Get("type").Error("supported are NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace and Sequence");
  }
  return absl::OkStatus();
}

std::string Normalizer::Normalize(std::string text) const {
  for (const auto& step : steps_) {
    if (const auto* form = std::get_if<UnicodeForm>(&step)) {
      text = ToReferenceForm(text, form->compose, form->compatibility);
    } else if (const auto* prepend = std::get_if<Prepend>(&step)) {
      if (!text.empty()) text.insert(0, prepend->prefix);
    } else if (const auto* replace = std::get_if<Replace>(&step)) {
      text = ReplaceAll(text, replace->pattern, replace->content);
    } else {
      text = ToLowercase(text);
    }
  }
  return text;
}

}  // namespace nabla
