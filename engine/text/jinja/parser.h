// Parses a template: statements here, expressions in expression_parser.h.
//
// Pure. Errors are InvalidArgument, "line N: ...". Nesting is bounded, so hostile templates cannot exhaust the stack.
//
//   NABLA_ASSIGN_OR_RETURN(Body body, ParseTemplate("{% for m in messages %}{{ m.content }}{% endfor %}"));
#ifndef NABLA_ENGINE_TEXT_JINJA_PARSER_H_
#define NABLA_ENGINE_TEXT_JINJA_PARSER_H_

#include <string>

#include "absl/status/statusor.h"
#include "engine/text/jinja/syntax_tree.h"

namespace nabla::jinja {

absl::StatusOr<Body> ParseTemplate(const std::string& source);

}  // namespace nabla::jinja

#endif  // NABLA_ENGINE_TEXT_JINJA_PARSER_H_
