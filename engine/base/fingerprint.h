// A short name for a lot of data, the same on every machine and in every build: 64-bit FNV-1a as 16 hexadecimal digits.
// It tells things apart that were mixed up by mistake; it is no protection against forgery.
//
//   Fingerprint fingerprint;
//   fingerprint.Add("dtype").Add("float32").Add(int64_t{42});
//   std::string name = fingerprint.Hex();   // "9f3a…"
//
// Add keeps its arguments apart: "ab", "c" and "a", "bc" differ. Not thread-safe.
#ifndef NABLA_ENGINE_BASE_FINGERPRINT_H_
#define NABLA_ENGINE_BASE_FINGERPRINT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace nabla {

class Fingerprint {
 public:
  Fingerprint& Add(absl::string_view bytes);
  Fingerprint& Add(const char* text) { return Add(absl::string_view(text)); }
  Fingerprint& Add(int64_t number);

  std::string Hex() const;

 private:
  void AddByte(unsigned char byte) { hash_ = (hash_ ^ byte) * 0x100000001b3; }

  uint64_t hash_ = 0xcbf29ce484222325;
};

// Of a tokenizer as far as translating token ids goes: all token strings by id, and the padding.
std::string TokenizerFingerprint(absl::Span<const std::string> token_strings, int32_t pad_token_id);

}  // namespace nabla

#endif  // NABLA_ENGINE_BASE_FINGERPRINT_H_
