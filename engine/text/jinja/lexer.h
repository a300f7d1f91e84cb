// Cuts a template into tokens, with the white-space rules of the environment Hugging Face renders chat templates in:
// trim_blocks, lstrip_blocks, and the signs of {%- -%} and {%+ +%}. Comments are gone and raw blocks are text
// afterwards.
//
// Pure. Errors are InvalidArgument, "line N: ...".
//
//   NABLA_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize("{{ a }}"));
//   // kPrintBegin, kName "a", kPrintEnd, kEnd
#ifndef NABLA_ENGINE_TEXT_JINJA_LEXER_H_
#define NABLA_ENGINE_TEXT_JINJA_LEXER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace nabla::jinja {

enum class TokenType {
  kText,
  kPrintBegin,  // {{
  kPrintEnd,    // }}
  kBlockBegin,  // {%
  kBlockEnd,    // %}
  kName,
  kInteger,
  kFloat,
  kString,  // unescaped
  kOperator,
  kEnd,
};

struct Token {
  TokenType type;
  std::string text;
  int line;
};

absl::StatusOr<std::vector<Token>> Tokenize(const std::string& source);

}  // namespace nabla::jinja

#endif  // NABLA_ENGINE_TEXT_JINJA_LEXER_H_
