// UTF-8 as Unicode recommends it: validation, decoding, and the replacement of what is not UTF-8 by U+FFFD.
//
// A replacement character stands for a maximal ill-formed part (Unicode 3.9, table 3-8), as in Rust and in Python, so
// texts decoded here equal those of Hugging Face's tokenizers. All functions are pure and never fail.
//
//   std::string text;
//   size_t used = AppendUtf8Lossy("caf\xC3", /*final=*/false, text);  // text == "caf", used == 3: 0xC3 may be
//   completed used = AppendUtf8Lossy("\xC3", /*final=*/true, text);             // text == "caf\uFFFD"
#ifndef NABLA_ENGINE_TEXT_UTF8_H_
#define NABLA_ENGINE_TEXT_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace nabla {

inline constexpr char kReplacementCharacter[] = "\xEF\xBF\xBD";

struct Utf8Character {
  char32_t code_point;  // U+FFFD where the bytes are ill-formed
  size_t length;        // bytes; of an ill-formed part: of its maximal subpart, at least 1
  bool valid;
  bool truncated;  // ill-formed only because the text ends in the middle of the sequence
};

// The character at the start of `text`, which must not be empty.
Utf8Character DecodeUtf8Character(absl::string_view text);

// `code_point` must be a Unicode scalar value.
void AppendUtf8(char32_t code_point, std::string& out);

bool IsValidUtf8(absl::string_view text);

// Appends `bytes` to `out` with ill-formed parts replaced. Unless `final`, stops before a sequence that further bytes
// could complete. Returns the number of bytes consumed.
size_t AppendUtf8Lossy(absl::string_view bytes, bool final, std::string& out);

// Unicode's White_Space property.
bool IsUnicodeWhiteSpace(char32_t code_point);

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_UTF8_H_
