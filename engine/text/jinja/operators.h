// Python's operators on template values. Pure but for the context's limits; InvalidArgument where Python would raise.
//
//   NABLA_ASSIGN_OR_RETURN(Value sum, ApplyBinary(context, "+", Value(1), Value(2)));
//   NABLA_ASSIGN_OR_RETURN(bool found, ApplyComparison("in", Value("a"), Value("abc")));
#ifndef NABLA_ENGINE_TEXT_JINJA_OPERATORS_H_
#define NABLA_ENGINE_TEXT_JINJA_OPERATORS_H_

#include <string>

#include "absl/status/statusor.h"
#include "engine/text/jinja/render_context.h"
#include "engine/text/jinja/value.h"

namespace nabla::jinja {

// + - * / // % ** ~
absl::StatusOr<Value> ApplyBinary(RenderContext& context, const std::string& op, const Value& left, const Value& right);
// - +
absl::StatusOr<Value> ApplyUnary(const std::string& op, const Value& operand);
// == != < <= > >= in, and "not in"
absl::StatusOr<bool> ApplyComparison(const std::string& op, const Value& left, const Value& right);

}  // namespace nabla::jinja

#endif  // NABLA_ENGINE_TEXT_JINJA_OPERATORS_H_
