// The 256 characters by which GPT-2 writes bytes in vocabularies: printable Latin-1 characters stand for themselves,
// the other 68 bytes for U+0100 onwards ("Ġ" is the space, "Ċ" the line feed). Pure functions; never fail.
//
//   ByteToCharacter(' ');               // U'\u0120'
//   TokenStringToBytes("Ġthe");         // " the"
//   TokenStringToBytes("<|a token|>");  // a space is no letter of the alphabet: the string itself
#ifndef NABLA_ENGINE_TEXT_BYTE_ALPHABET_H_
#define NABLA_ENGINE_TEXT_BYTE_ALPHABET_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace nabla {

char32_t ByteToCharacter(uint8_t byte);
std::optional<uint8_t> CharacterToByte(char32_t character);

// The bytes a vocabulary's string stands for; the string itself if it has a character outside the alphabet (added
// tokens may).
std::string TokenStringToBytes(absl::string_view token);

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_BYTE_ALPHABET_H_
