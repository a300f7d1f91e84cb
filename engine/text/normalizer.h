// The normalizer of a tokenizer.json: what happens to a text before it is cut into words.
//
// Supported: NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace (String or Regex), Sequence, and null (identity).
// Thread-safe (immutable).
//
//   NABLA_ASSIGN_OR_RETURN(Normalizer normalizer, Normalizer::FromJson(root.Get("normalizer")));
//   if (!normalizer.IsIdentity()) text = normalizer.Normalize(std::move(text));  // valid UTF-8 in and out
//   Anything else is InvalidArgument and names the field.
#ifndef NABLA_ENGINE_TEXT_NORMALIZER_H_
#define NABLA_ENGINE_TEXT_NORMALIZER_H_

#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/text/json_field.h"
#include "engine/text/regex.h"

namespace nabla {

class Normalizer {
 public:
  static absl::StatusOr<Normalizer> FromJson(const JsonField& field);

  bool IsIdentity() const { return steps_.empty(); }
  std::string Normalize(std::string text) const;

 private:
  struct UnicodeForm {
    bool compose;
    bool compatibility;
  };
  struct Lowercase {};
  struct Prepend {
    std::string prefix;
  };
  struct Replace {
    Regex pattern;
    std::string content;
  };

  absl::Status AddSteps(const JsonField& field);

  std::vector<std::variant<UnicodeForm, Lowercase, Prepend, Replace>> steps_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_NORMALIZER_H_
