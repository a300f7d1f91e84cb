#include "engine/base/fingerprint.h"

#include "absl/strings/str_format.h"

namespace nabla {

Fingerprint& Fingerprint::Add(absl::string_view bytes) {
  Add(static_cast<int64_t>(bytes.size()));
  for (const char byte : bytes) AddByte(static_cast<unsigned char>(byte));
  return *this;
}

Fingerprint& Fingerprint::Add(int64_t number) {
  for (int shift = 0; shift < 64; shift += 8)
    AddByte(static_cast<unsigned char>(static_cast<uint64_t>(number) >> shift));
  return *this;
}

std::string Fingerprint::Hex() const { return absl::StrFormat("%016x", hash_); }

std::string TokenizerFingerprint(absl::Span<const std::string> token_strings, int32_t pad_token_id) {
  Fingerprint fingerprint;
  fingerprint.Add(static_cast<int64_t>(token_strings.size())).Add(int64_t{pad_token_id});
  for (const std::string& token : token_strings) fingerprint.Add(absl::string_view(token));
  return fingerprint.Hex();
}

}  // namespace nabla
