// The tests that stand behind "is".
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/python_text.h"

namespace nabla::jinja {
namespace {

using Test = absl::StatusOr<bool> (*)(const Value& value, const Value& argument);
using TestTable = absl::flat_hash_map<std::string, Test>;

absl::StatusOr<bool> IsMultiple(const Value& value, const Value& divisor) {
  NABLA_RETURN_IF_ERROR(RequireDefined(value));
  if (!value.IsInteger() || !divisor.IsInteger() || divisor.integer() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(value.Repr(), " cannot be divided by ", divisor.Repr()));
  }
  return divisor.integer() == -1 || value.integer() % divisor.integer() == 0;
}

const TestTable& TestsOfOne() {
  static const auto* const kTests = new TestTable{
      {"boolean", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return v.IsBool(); }},
      {"callable", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return v.IsCallable(); }},
      {"defined", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return !v.IsUndefined(); }},
      {"even", [](const Value& v, const Value&) { return IsMultiple(v, Value(2)); }},
      {"false", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return v.IsBool() && !v.IsTrue(); }},
      {"float", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return v.IsFloat(); }},
      {"integer", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return v.IsInteger() && !v.IsBool(); }},
      {"iterable", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return Iterate(v).ok(); }},
      {"lower",
       [](const Value& v, const Value&) -> absl::StatusOr<bool> {
         const std::string text = v.ToText();
         return ToLower(text) == text && ToUpper(text) != text;
       }},
      {"mapping", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return v.IsDict(); }},
      {"none", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return v.IsNone(); }},
      {"number", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return v.IsNumber(); }},
      {"odd",
       [](const Value& v, const Value&) -> absl::StatusOr<bool> {
         NABLA_ASSIGN_OR_RETURN(const bool even, IsMultiple(v, Value(2)));
         return !even;
       }},
      {"sequence",
       [](const Value& v, const Value&) -> absl::StatusOr<bool> {
         return v.IsString() || v.IsDict() || v.IsUndefined() ||
                (v.IsSequence() && v.sequence_kind() != SequenceKind::kGenerator);
       }},
      {"string", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return v.IsString(); }},
      {"true", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return v.IsBool() && v.IsTrue(); }},
      {"undefined", [](const Value& v, const Value&) -> absl::StatusOr<bool> { return v.IsUndefined(); }},
      {"upper",
       [](const Value& v, const Value&) -> absl::StatusOr<bool> {
         const std::string text = v.ToText();
         return ToUpper(text) == text && ToLower(text) != text;
       }},
  };
  return *kTests;
}

const TestTable& TestsWithArgument() {
  static constexpr auto kEqual = [](const Value& a, const Value& b) { return ApplyComparison("==", a, b); };
  static constexpr auto kNotEqual = [](const Value& a, const Value& b) { return ApplyComparison("!=", a, b); };
  static constexpr auto kLess = [](const Value& a, const Value& b) { return ApplyComparison("<", a, b); };
  static constexpr auto kLessOrEqual = [](const Value& a, const Value& b) { return ApplyComparison("<=", a, b); };
  static constexpr auto kGreater = [](const Value& a, const Value& b) { return ApplyComparison(">", a, b); };
  static constexpr auto kGreaterOrEqual = [](const Value& a, const Value& b) { return ApplyComparison(">=", a, b); };
  static const auto* const kTests = new TestTable{
      {"==", kEqual},
      {"eq", kEqual},
      {"equalto", kEqual},
      {"!=", kNotEqual},
      {"ne", kNotEqual},
      {"<", kLess},
      {"lt", kLess},
      {"lessthan", kLess},
      {"<=", kLessOrEqual},
      {"le", kLessOrEqual},
      {">", kGreater},
      {"gt", kGreater},
      {"greaterthan", kGreater},
      {">=", kGreaterOrEqual},
      {"ge", kGreaterOrEqual},
      {"divisibleby", IsMultiple},
      {"in", [](const Value& a, const Value& b) { return ApplyComparison("in", a, b); }},
      {"sameas",
       [](const Value& a, const Value& b) -> absl::StatusOr<bool> { return a.TypeName() == b.TypeName() && a == b; }},
  };
  return *kTests;
}

}  // namespace

absl::StatusOr<bool> ApplyTest(RenderContext&, const std::string& name, const CallArguments& arguments) {
  const Value& value = arguments.positional[0];
  const auto of_one = TestsOfOne().find(name);
  if (of_one != TestsOfOne().end()) return of_one->second(value, value);
  const auto with_argument = TestsWithArgument().find(name);
  if (with_argument == TestsWithArgument().end()) {
    return absl::InvalidArgumentError(absl::StrCat("No test named '", name, "'"));
  }
  if (arguments.positional.size() != 2) {
    return absl::InvalidArgumentError(absl::StrCat("test '", name, "' expects one argument"));
  }
  return with_argument->second(value, arguments.positional[1]);
}

}  // namespace nabla::jinja
