#include "engine/text/tokenizer.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "engine/text/byte_alphabet.h"
#include "engine/text/utf8.h"

namespace nabla {

Tokenizer::Tokenizer(Normalizer normalizer, PreTokenizer pre_tokenizer, ByteLevelBpe bpe, Vocabulary ids,
                     const std::vector<AddedToken>& added_tokens)
    : normalizer_(std::move(normalizer)),
      pre_tokenizer_(std::move(pre_tokenizer)),
      bpe_(std::move(bpe)),
      ids_(std::move(ids)) {
  int32_t largest = -1;
  for (const auto& [text, id] : ids_) largest = std::max(largest, id);
  for (const AddedToken& token : added_tokens) largest = std::max(largest, token.id);
  tokens_.resize(static_cast<size_t>(largest) + 1);
  for (const auto& [text, id] : ids_) tokens_[id] = {text, TokenStringToBytes(text)};
  for (const AddedToken& token : added_tokens) {
    ids_[token.content] = token.id;
    tokens_[token.id] = {token.content, TokenStringToBytes(token.content), token.special};
  }
  // Where two tokens read the same once normalised, special tokens come first.
  for (const bool special : {true, false}) {
    for (AddedToken token : added_tokens) {
      if (token.special != special) continue;
      if (token.normalized) {
        token.content = normalizer_.Normalize(std::move(token.content));
        normalized_added_tokens_.Add(token);
      } else {
        raw_added_tokens_.Add(token);
      }
    }
  }
}

std::vector<int32_t> Tokenizer::Encode(absl::string_view text) const {
  std::string repaired;
  if (!IsValidUtf8(text)) {
    AppendUtf8Lossy(text, /*final=*/true, repaired);
    text = repaired;
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3);
  for (const AddedTokenMatcher::Part& part : raw_added_tokens_.Split(text)) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else if (normalizer_.IsIdentity()) {
      EncodeSegment(part.text, ids);
    } else {
      EncodeSegment(normalizer_.Normalize(std::string(part.text)), ids);
    }
  }
  return ids;
}

void Tokenizer::EncodeSegment(absl::string_view text, std::vector<int32_t>& ids) const {
  std::deque<std::string> storage;
  for (const AddedTokenMatcher::Part& part : normalized_added_tokens_.Split(text)) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      for (const absl::string_view piece : pre_tokenizer_.Split(part.text, storage)) bpe_.Encode(piece, ids);
    }
  }
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (skip_special_tokens && IsSpecial(id)) continue;
    const absl::string_view token = TokenBytes(id);
    bytes.append(token.data(), token.size());
  }
  std::string text;
  text.reserve(bytes.size());
  AppendUtf8Lossy(bytes, /*final=*/true, text);
  return text;
}

absl::string_view Tokenizer::TokenBytes(int32_t id) const {
  return Contains(id) ? absl::string_view(tokens_[id].bytes) : absl::string_view();
}

bool Tokenizer::IsSpecial(int32_t id) const { return Contains(id) && tokens_[id].special; }

std::optional<int32_t> Tokenizer::TokenToId(absl::string_view token_string) const {
  const auto found = ids_.find(token_string);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::string Tokenizer::TokenString(int32_t id) const { return Contains(id) ? tokens_[id].text : std::string(); }

}  // namespace nabla
