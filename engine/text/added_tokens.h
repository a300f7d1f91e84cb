// Finds added tokens ("<|im_end|>") in a text: leftmost first, of those the longest, with their options lstrip, rstrip
// and single_word. Thread-safe once built.
//
//   AddedTokenMatcher matcher;
//   matcher.Add({.id = 2, .content = "<|im_end|>"});
//   for (const AddedTokenMatcher::Part& part : matcher.Split("Hi<|im_end|>")) ...  // "Hi", then the token with id 2
#ifndef NABLA_ENGINE_TEXT_ADDED_TOKENS_H_
#define NABLA_ENGINE_TEXT_ADDED_TOKENS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace nabla {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   // looked for in the normalised text
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool single_word = false;  // only where no word character touches it
};

class AddedTokenMatcher {
 public:
  struct Part {
    int32_t id;              // -1: text between tokens
    absl::string_view text;  // never empty for text between tokens
  };

  // Of two tokens with the same content the first stays. Empty content is ignored.
  void Add(const AddedToken& token);

  bool empty() const { return tokens_.empty(); }
  // `text` must be valid UTF-8 and outlive the result.
  std::vector<Part> Split(absl::string_view text) const;

 private:
  // The token that starts `text` and is longest, or null.
  const AddedToken* LongestMatch(absl::string_view text) const;

  std::vector<AddedToken> tokens_;
  // A trie: (node, byte) -> node; node 0 is the root.
  absl::flat_hash_map<uint64_t, int32_t> edges_;
  std::vector<int32_t> token_at_node_ = {-1};
  std::array<bool, 256> starts_token_{};
};

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_ADDED_TOKENS_H_
