#include "engine/text/byte_alphabet.h"

#include <array>

#include "engine/text/utf8.h"

namespace nabla {
namespace {

constexpr char32_t kFirstStandIn = 0x100;
constexpr int kStandIns = 68;

constexpr bool StandsForItself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<uint8_t, kStandIns> MakeStandIns() {
  std::array<uint8_t, kStandIns> bytes{};
  int next = 0;
  for (int byte = 0; byte < 256; ++byte) {
    if (!StandsForItself(byte)) bytes[next++] = static_cast<uint8_t>(byte);
  }
  return bytes;
}

constexpr std::array<uint8_t, kStandIns> kStandInBytes = MakeStandIns();

}  // namespace

char32_t ByteToCharacter(uint8_t byte) {
  if (StandsForItself(byte)) return byte;
  int index = 0;
  while (kStandInBytes[index] != byte) ++index;
  return kFirstStandIn + index;
}

std::optional<uint8_t> CharacterToByte(char32_t character) {
  if (character < kFirstStandIn) {
    if (!StandsForItself(static_cast<int>(character))) return std::nullopt;
    return static_cast<uint8_t>(character);
  }
  if (character >= kFirstStandIn + kStandIns) return std::nullopt;
  return kStandInBytes[character - kFirstStandIn];
}

std::string TokenStringToBytes(absl::string_view token) {
  std::string bytes;
  absl::string_view rest = token;
  while (!rest.empty()) {
    const Utf8Character character = DecodeUtf8Character(rest);
    const std::optional<uint8_t> byte = CharacterToByte(character.code_point);
    if (!byte.has_value()) return std::string(token);
    bytes.push_back(static_cast<char>(*byte));
    rest.remove_prefix(character.length);
  }
  return bytes;
}

}  // namespace nabla
