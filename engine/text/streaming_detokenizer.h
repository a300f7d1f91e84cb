// Decodes a growing sequence of tokens piece by piece, never cutting a character in two.
//
// Not thread-safe; one per stream. The concatenation of everything Push and Flush return equals Tokenizer::Decode of
// all ids, invalid bytes included.
//
//   StreamingDetokenizer detokenizer(tokenizer, /*skip_special_tokens=*/true);
//   for (int32_t id : ids) Send(detokenizer.Push(id));  // "" while a character is incomplete
//   Send(detokenizer.Flush());
#ifndef NABLA_ENGINE_TEXT_STREAMING_DETOKENIZER_H_
#define NABLA_ENGINE_TEXT_STREAMING_DETOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "engine/text/tokenizer.h"

namespace nabla {

class StreamingDetokenizer {
 public:
  StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special_tokens);

  // The whole characters that `id` completes.
  std::string Push(int32_t id);

  // U+FFFD for a character that stayed incomplete, else "". Afterwards the stream starts anew.
  std::string Flush();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_tokens_;
  std::string pending_;  // at most three bytes of a character between calls
};

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_STREAMING_DETOKENIZER_H_
