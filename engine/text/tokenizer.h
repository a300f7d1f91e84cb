// Text to token ids and back, as Hugging Face's tokenizers do it for a tokenizer.json of the byte-level BPE families
// (GPT-2, Llama 3, Qwen 2/2.5/3, SmolLM), or for a GGUF file made of one. Other families are refused by an
// InvalidArgument that names the field.
//
// Thread-safe (immutable); shared by everything that encodes or decodes. Load blocks on reading the file. Encoding
// takes O(n log n) in the length of the text. The post-processor is not applied: no special tokens are added.
//
//   NABLA_ASSIGN_OR_RETURN(std::shared_ptr<const Tokenizer> tokenizer, Tokenizer::Load("model/tokenizer.json"));
//   std::vector<int32_t> ids = tokenizer->Encode("<|im_start|>user\nHi");
//   std::string text = tokenizer->Decode(ids, /*skip_special_tokens=*/false);
#ifndef NABLA_ENGINE_TEXT_TOKENIZER_H_
#define NABLA_ENGINE_TEXT_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/text/added_tokens.h"
#include "engine/text/byte_level_bpe.h"
#include "engine/text/json_field.h"
#include "engine/text/normalizer.h"
#include "engine/text/pre_tokenizer.h"

namespace nabla {

class Tokenizer {
 public:
  // NotFound where the file cannot be read.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Load(const std::string& path);
  // `source_name` stands for the file in errors.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> FromJson(const std::string& json,
                                                                   const std::string& source_name);

  // The tokenizer inside a GGUF file whose tokenizer.ggml.model is "gpt2". NotFound where the file cannot be opened.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadGguf(const std::string& path);

  // Added tokens in the text are recognised. Bytes that are not UTF-8 are encoded as U+FFFD.
  std::vector<int32_t> Encode(absl::string_view text) const;

  // Bytes that are not UTF-8 become U+FFFD. Ids outside the vocabulary are skipped.
  std::string Decode(absl::Span<const int32_t> ids, bool skip_special_tokens) const;

  // The bytes one token adds to a decoded text; "" for ids outside the vocabulary.
  absl::string_view TokenBytes(int32_t id) const;
  bool IsSpecial(int32_t id) const;

  // Token strings as in tokenizer.json: "Ġthe", "<|im_end|>". "" for ids outside the vocabulary.
  std::optional<int32_t> TokenToId(absl::string_view token_string) const;
  std::string TokenString(int32_t id) const;

  // The largest id + 1.
  int vocabulary_size() const { return static_cast<int>(tokens_.size()); }

 private:
  struct Token {
    std::string text;
    std::string bytes;
    bool special = false;
  };

  Tokenizer(Normalizer normalizer, PreTokenizer pre_tokenizer, ByteLevelBpe bpe, Vocabulary ids,
            const std::vector<AddedToken>& added_tokens);

  // `document` is a whole tokenizer.json.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> FromDocument(const nlohmann::json& document,
                                                                       const std::string& source_name);
  bool Contains(int32_t id) const { return id >= 0 && id < vocabulary_size(); }
  void EncodeSegment(absl::string_view text, std::vector<int32_t>& ids) const;

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  ByteLevelBpe bpe_;
  Vocabulary ids_;             // with added tokens
  std::vector<Token> tokens_;  // by id; empty where no token has it
  AddedTokenMatcher raw_added_tokens_;
  AddedTokenMatcher normalized_added_tokens_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_TOKENIZER_H_
