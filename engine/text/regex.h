// A regular expression of a tokenizer.json, run by PCRE2 (Unicode, JIT) with the meaning it has in Oniguruma, which
// Hugging Face's tokenizers use. Thread-safe (immutable); copies share the compiled pattern.
//
//   NABLA_ASSIGN_OR_RETURN(Regex words, Regex::Create("\\p{L}+|\\s+"));
//   Regex::Matcher matcher(words, text);                        // text must be valid UTF-8 and outlive the matcher
//   while (matcher.Next()) Use(matcher.begin(), matcher.end());  // leftmost matches that do not overlap
#ifndef NABLA_ENGINE_TEXT_REGEX_H_
#define NABLA_ENGINE_TEXT_REGEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/json_field.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace nabla {

class Regex {
 public:
  // The error of a malformed pattern says what is wrong and at which character.
  static absl::StatusOr<Regex> Create(const std::string& pattern);
  // Matches `text` literally.
  static absl::StatusOr<Regex> CreateLiteral(const std::string& text);
  // {"Regex": "..."} or {"String": "..."}, as tokenizer.json writes patterns.
  static absl::StatusOr<Regex> FromJson(const JsonField& field);

  // One pass over one text; not thread-safe.
  class Matcher {
   public:
    Matcher(const Regex& regex, absl::string_view text);
    bool Next();
    size_t begin() const { return begin_; }
    size_t end() const { return end_; }

   private:
    bool MatchFrom(size_t start);

    const pcre2_real_code_8* code_;
    absl::string_view text_;
    std::shared_ptr<pcre2_real_match_data_8> match_data_;
    size_t begin_ = 0;
    size_t end_ = 0;
    size_t search_from_ = 0;
    bool matched_before_ = false;
  };

 private:
  static absl::StatusOr<Regex> Compile(const std::string& pattern, uint32_t options);

  std::shared_ptr<const pcre2_real_code_8> code_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_REGEX_H_
