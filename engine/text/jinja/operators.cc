#include "engine/text/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace nabla::jinja {
namespace {

absl::Status TypeError(const std::string& op, const Value& left, const Value& right) {
  return absl::InvalidArgumentError(
      absl::StrCat("unsupported operand types for ", op, ": '", left.TypeName(), "' and '", right.TypeName(), "'"));
}

absl::StatusOr<Value> IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  int64_t result = 1;
  // Beyond 63 multiplications only these bases stay within 64 bits.
  if (base == 0 || base == 1 || base == -1) exponent = std::min<int64_t>(exponent, 2 + exponent % 2);
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(result, base, &result)) {
      return absl::InvalidArgumentError("the integer result of ** does not fit into 64 bits");
    }
  }
  return Value(result);
}

absl::StatusOr<Value> ApplyToIntegers(const std::string& op, int64_t a, int64_t b) {
  if (op == "/" || op == "//" || op == "%") {
    if (b == 0) return absl::InvalidArgumentError("division by zero");
    if (op == "/") return Value(static_cast<double>(a) / static_cast<double>(b));
    if (b == -1) return op == "%" ? absl::StatusOr<Value>(Value(0)) : ApplyToIntegers("*", a, -1);
    const bool rounds_down = a % b != 0 && (a % b < 0) != (b < 0);
    return op == "//" ? Value(a / b - (rounds_down ? 1 : 0)) : Value(a % b + (rounds_down ? b : 0));
  }
  if (op == "**") return IntegerPower(a, b);
  int64_t result = 0;
  const bool overflow = op == "+"   ? __builtin_add_overflow(a, b, &result)
                        : op == "-" ? __builtin_sub_overflow(a, b, &result)
                                    : __builtin_mul_overflow(a, b, &result);
  if (overflow)
    return absl::InvalidArgumentError(absl::StrCat("the integer result of ", op, " does not fit into 64 bits"));
  return Value(result);
}

absl::StatusOr<Value> ApplyToNumbers(const std::string& op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") return Value(std::pow(a, b));
  if (b == 0) return absl::InvalidArgumentError("division by zero");
  if (op == "/") return Value(a / b);
  if (op == "//") return Value(std::floor(a / b));
  return Value(a - b * std::floor(a / b));
}

// A string or a sequence times an integer.
absl::StatusOr<Value> Repeat(RenderContext& context, const Value& value, int64_t times) {
  const size_t count = times > 0 ? static_cast<size_t>(times) : 0;
  if (value.IsString()) {
    NABLA_RETURN_IF_ERROR(context.Charge(count, value.string().size()));
    std::string text;
    for (size_t i = 0; i < count && !value.string().empty(); ++i) text.append(value.string());
    return Value(std::move(text));
  }
  NABLA_RETURN_IF_ERROR(context.Charge(count, value.items().size() * sizeof(Value)));
  Value::Items items;
  for (size_t i = 0; i < count && !value.items().empty(); ++i) {
    items.insert(items.end(), value.items().begin(), value.items().end());
  }
  return Value::Sequence(value.sequence_kind(), std::move(items));
}

absl::StatusOr<bool> Contains(const Value& container, const Value& item) {
  if (container.IsString()) {
    NABLA_RETURN_IF_ERROR(RequireDefined(item));
    if (!item.IsString()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'in <string>' requires string as left operand, not ", item.TypeName()));
    }
    return container.string().find(item.string()) != std::string::npos;
  }
  if (container.IsSequence()) {
    return std::find(container.items().begin(), container.items().end(), item) != container.items().end();
  }
  if (container.IsDict()) return FindEntry(container.entries(), item) != nullptr;
  if (container.IsUndefined()) return false;
  return absl::InvalidArgumentError(absl::StrCat("argument of type '", container.TypeName(), "' is not iterable"));
}

}  // namespace

absl::StatusOr<Value> ApplyBinary(RenderContext& context, const std::string& op, const Value& left,
                                  const Value& right) {
  if (op == "~") {
    std::string text = left.ToText();
    text.append(right.ToText());
    NABLA_RETURN_IF_ERROR(context.Charge(text.size()));
    return Value(std::move(text));
  }
  NABLA_RETURN_IF_ERROR(RequireDefined(left));
  NABLA_RETURN_IF_ERROR(RequireDefined(right));
  if (left.IsInteger() && right.IsInteger()) return ApplyToIntegers(op, left.integer(), right.integer());
  if (left.IsNumber() && right.IsNumber()) return ApplyToNumbers(op, left.number(), right.number());
  if (op == "+") {
    if (left.IsString() && right.IsString()) {
      NABLA_RETURN_IF_ERROR(context.Charge(left.string().size() + right.string().size()));
      return Value(absl::StrCat(left.string(), right.string()));
    }
    if (left.IsSequence() && right.IsSequence() && left.sequence_kind() == right.sequence_kind()) {
      NABLA_RETURN_IF_ERROR(context.Charge(left.items().size() + right.items().size(), sizeof(Value)));
      Value::Items items = left.items();
      items.insert(items.end(), right.items().begin(), right.items().end());
      return Value::Sequence(left.sequence_kind(), std::move(items));
    }
  }
  if (op == "*") {
    if ((left.IsString() || left.IsSequence()) && right.IsInteger()) return Repeat(context, left, right.integer());
    if ((right.IsString() || right.IsSequence()) && left.IsInteger()) return Repeat(context, right, left.integer());
  }
  return TypeError(op, left, right);
}

absl::StatusOr<Value> ApplyUnary(const std::string& op, const Value& operand) {
  NABLA_RETURN_IF_ERROR(RequireDefined(operand));
  if (operand.IsFloat()) return Value(op == "-" ? -operand.number() : operand.number());
  if (!operand.IsInteger()) {
    return absl::InvalidArgumentError(absl::StrCat("bad operand type for unary ", op, ": '", operand.TypeName(), "'"));
  }
  return op == "-" ? ApplyToIntegers("-", 0, operand.integer()) : absl::StatusOr<Value>(Value(operand.integer()));
}

absl::StatusOr<bool> ApplyComparison(const std::string& op, const Value& left, const Value& right) {
  if (op == "==") return left == right;
  if (op == "!=") return !(left == right);
  if (op == "in") return Contains(right, left);
  if (op == "not in") {
    NABLA_ASSIGN_OR_RETURN(const bool contained, Contains(right, left));
    return !contained;
  }
  NABLA_ASSIGN_OR_RETURN(const int order, CompareValues(left, right));
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  if (op == ">") return order > 0;
  return order >= 0;
}

}  // namespace nabla::jinja
