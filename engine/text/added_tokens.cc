#include "engine/text/added_tokens.h"

#include <utf8proc.h>

#include <algorithm>

#include "engine/text/utf8.h"

namespace nabla {
namespace {

uint64_t EdgeKey(int32_t node, char byte) {
  return (uint64_t{static_cast<uint32_t>(node)} << 8) | static_cast<unsigned char>(byte);
}

// \w as Unicode's regular expressions define it: alphabetic, mark, decimal digit, connector, join control.
bool IsWordCharacter(char32_t c) {
  // Alphabetic although their category is "other symbol": circled and squared letters.
  if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
      (c >= 0x1F170 && c <= 0x1F189) || c == 0x200C || c == 0x200D) {
    return true;
  }
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

// The last character of `text`, which must not be empty.
Utf8Character LastCharacter(absl::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return DecodeUtf8Character(text.substr(begin));
}

bool StandsAlone(absl::string_view before, absl::string_view after) {
  return (before.empty() || !IsWordCharacter(LastCharacter(before).code_point)) &&
         (after.empty() || !IsWordCharacter(DecodeUtf8Character(after).code_point));
}

size_t TrailingSpace(absl::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const Utf8Character last = LastCharacter(text.substr(0, text.size() - length));
    if (!IsUnicodeWhiteSpace(last.code_point)) break;
    length += last.length;
  }
  return length;
}

size_t LeadingSpace(absl::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const Utf8Character first = DecodeUtf8Character(text.substr(length));
    if (!IsUnicodeWhiteSpace(first.code_point)) break;
    length += first.length;
  }
  return length;
}

}  // namespace

void AddedTokenMatcher::Add(const AddedToken& token) {
  if (token.content.empty()) return;
  int32_t node = 0;
  for (const char c : token.content) {
    const auto [edge, inserted] = edges_.try_emplace(EdgeKey(node, c), static_cast<int32_t>(token_at_node_.size()));
    if (inserted) token_at_node_.push_back(-1);
    node = edge->second;
  }
  if (token_at_node_[node] >= 0) return;
  token_at_node_[node] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
  starts_token_[static_cast<unsigned char>(token.content.front())] = true;
}

const AddedToken* AddedTokenMatcher::LongestMatch(absl::string_view text) const {
  const AddedToken* longest = nullptr;
  int32_t node = 0;
  for (const char c : text) {
    const auto edge = edges_.find(EdgeKey(node, c));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (token_at_node_[node] >= 0) longest = &tokens_[token_at_node_[node]];
  }
  return longest;
}

std::vector<AddedTokenMatcher::Part> AddedTokenMatcher::Split(absl::string_view text) const {
  std::vector<Part> parts;
  size_t done = 0;  // everything before it is in `parts`
  size_t position = 0;
  while (position < text.size()) {
    const AddedToken* token = nullptr;
    if (starts_token_[static_cast<unsigned char>(text[position])]) token = LongestMatch(text.substr(position));
    if (token == nullptr) {
      ++position;
      continue;
    }
    size_t begin = position;
    size_t end = begin + token->content.size();
    // Also a match that is then refused, or whose white space reaches further, uses up just its own characters.
    position = end;
    if (token->single_word && !StandsAlone(text.substr(0, begin), text.substr(end))) continue;
    if (token->lstrip) begin = std::max(begin - TrailingSpace(text.substr(0, begin)), done);
    if (token->rstrip) end += LeadingSpace(text.substr(end));
    if (done < begin) parts.push_back({-1, text.substr(done, begin - done)});
    parts.push_back({token->id, text.substr(begin, end - begin)});
    done = end;
  }
  if (done < text.size()) parts.push_back({-1, text.substr(done)});
  return parts;
}

}  // namespace nabla
