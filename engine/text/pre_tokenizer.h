// The pre_tokenizer of a byte-level tokenizer.json: cuts a text into the pieces that BPE merges within.
//
// Supported: Split, Digits, and ByteLevel as the last (or only) member of a Sequence. Thread-safe (immutable).
// Errors are InvalidArgument and name the field.
//
//   NABLA_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::FromJson(root.Get("pre_tokenizer")));
//   std::deque<std::string> storage;  // owns the pieces that are no part of the text
//   for (absl::string_view piece : pre_tokenizer.Split(text, storage)) bpe.Encode(piece, ids);
#ifndef NABLA_ENGINE_TEXT_PRE_TOKENIZER_H_
#define NABLA_ENGINE_TEXT_PRE_TOKENIZER_H_

#include <deque>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/json_field.h"
#include "engine/text/regex.h"

namespace nabla {

class PreTokenizer {
 public:
  static absl::StatusOr<PreTokenizer> FromJson(const JsonField& field);

  // `text` must be valid UTF-8. Pieces are not empty; they view `text` or `storage`.
  std::vector<absl::string_view> Split(absl::string_view text, std::deque<std::string>& storage) const;

 private:
  // What becomes of the matches of a pattern.
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  struct SplitStep {
    Regex pattern;
    Behavior behavior;
    bool invert;  // what is between the matches is taken for the matches
  };

  absl::Status AddSteps(const JsonField& field);
  absl::Status AddSplit(const JsonField& field);
  absl::Status AddByteLevel(const JsonField& field);
  static void Apply(const SplitStep& step, absl::string_view text, std::vector<absl::string_view>& pieces);

  std::vector<SplitStep> before_byte_level_;
  bool has_byte_level_ = false;
  bool add_prefix_space_ = false;
  std::vector<SplitStep> byte_level_;  // GPT-2's pattern, or none
};

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_PRE_TOKENIZER_H_
