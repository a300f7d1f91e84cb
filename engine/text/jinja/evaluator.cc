#include "engine/text/jinja/evaluator.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/loop.h"
#include "engine/text/jinja/operators.h"

namespace nabla::jinja {
namespace {

// Of expressions and blocks inside one another, macro calls included; keeps the stack below a megabyte or two.
constexpr int kDeepestEvaluation = 400;
// Deeper containers would exhaust the stack when printed or freed.
constexpr int kDeepestContainer = 100;

absl::Status CheckDepth(const Value& value) {
  if (value.depth() <= kDeepestContainer) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("lists and dicts are nested more than ", kDeepestContainer, " deep"));
}

}  // namespace

Evaluator::Evaluator() : globals_(NewScope(nullptr)) {}

Evaluator::Scope* Evaluator::NewScope(Scope* outer) {
  scopes_.push_back({outer, {}});
  return &scopes_.back();
}

void Evaluator::Define(const std::string& name, Value value) { SetVariable(*globals_, name, std::move(value)); }

void Evaluator::SetVariable(Scope& scope, const std::string& name, Value value) {
  for (auto& [known, old] : scope.variables) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  scope.variables.emplace_back(name, std::move(value));
}

Value Evaluator::GetVariable(const Scope* scope, const std::string& name) const {
  for (; scope != nullptr; scope = scope->outer) {
    for (const auto& [known, value] : scope->variables) {
      if (known == name) return value;
    }
  }
  const Value* function = FindFunction(name);
  return function != nullptr ? *function : Value::Undefined(absl::StrCat("'", name, "' is undefined"));
}

absl::StatusOr<std::string> Evaluator::Render(const Body& body) {
  std::string out;
  NABLA_RETURN_IF_ERROR(Execute(body, *NewScope(globals_), out).status());
  return out;
}

absl::Status Evaluator::Write(const std::string& text, std::string& out) {
  NABLA_RETURN_IF_ERROR(context_.Charge(text.size()));
  out.append(text);
  return absl::OkStatus();
}

absl::Status Evaluator::Assign(const Expression& target, const Value& value, Scope& scope) {
  NABLA_RETURN_IF_ERROR(CheckDepth(value));
  if (target.kind == Expression::Kind::kName) {
    SetVariable(scope, target.name, value);
    return absl::OkStatus();
  }
  if (target.kind == Expression::Kind::kAttribute) {
    NABLA_ASSIGN_OR_RETURN(const Value object, Evaluate(*target.operands[0], scope));
    if (object.IsObject() && object.object()->Set(target.name, value)) return absl::OkStatus();
    return absl::InvalidArgumentError("cannot assign attribute on non-namespace object");
  }
  NABLA_ASSIGN_OR_RETURN(const Value::Items items, Iterate(value));
  if (items.size() != target.operands.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot unpack ", items.size(), " values into ", target.operands.size(), " names"));
  }
  for (size_t i = 0; i < items.size(); ++i) NABLA_RETURN_IF_ERROR(Assign(*target.operands[i], items[i], scope));
  return absl::OkStatus();
}

absl::StatusOr<Evaluator::Flow> Evaluator::Execute(const Body& body, Scope& scope, std::string& out) {
  for (const Statement& statement : body) {
    absl::Status status = context_.CountStep();
    if (++depth_ > kDeepestEvaluation) status = absl::InvalidArgumentError("blocks and calls are nested too deep");
    absl::StatusOr<Flow> flow = status.ok() ? ExecuteStatement(statement, scope, out) : status;
    --depth_;
    if (!flow.ok()) return context_.Locate(flow.status(), statement.line);
    if (*flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

absl::StatusOr<Evaluator::Flow> Evaluator::ExecuteStatement(const Statement& statement, Scope& scope,
                                                            std::string& out) {
  switch (statement.kind) {
    case Statement::Kind::kText:
      NABLA_RETURN_IF_ERROR(Write(statement.text, out));
      return Flow::kNext;
    case Statement::Kind::kPrint: {
      NABLA_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.expressions[0], scope));
      NABLA_RETURN_IF_ERROR(Write(value.ToText(), out));
      return Flow::kNext;
    }
    case Statement::Kind::kIf: {
      NABLA_ASSIGN_OR_RETURN(const Value condition, Evaluate(*statement.expressions[0], scope));
      return Execute(condition.IsTrue() ? statement.body : statement.else_body, scope, out);
    }
    case Statement::Kind::kFor:
      return ExecuteFor(statement, scope, out);
    case Statement::Kind::kSet: {
      NABLA_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.expressions[0], scope));
      NABLA_RETURN_IF_ERROR(Assign(*statement.target, value, scope));
      return Flow::kNext;
    }
    case Statement::Kind::kSetBlock: {
      NABLA_ASSIGN_OR_RETURN(Value text, ExecuteToText(statement.body, scope));
      if (!statement.expressions.empty()) {
        NABLA_ASSIGN_OR_RETURN(text, ApplyFilterChain(*statement.expressions[0], text, scope));
      }
      NABLA_RETURN_IF_ERROR(Assign(*statement.target, text, scope));
      return Flow::kNext;
    }
    case Statement::Kind::kMacro:
      SetVariable(scope, statement.name, MakeMacro(statement.name, statement, scope));
      return Flow::kNext;
    case Statement::Kind::kCallBlock:
      NABLA_RETURN_IF_ERROR(ExecuteCallBlock(statement, scope, out));
      return Flow::kNext;
    case Statement::Kind::kFilterBlock: {
      NABLA_ASSIGN_OR_RETURN(Value text, ExecuteToText(statement.body, scope));
      NABLA_ASSIGN_OR_RETURN(text, ApplyFilterChain(*statement.expressions[0], text, scope));
      NABLA_RETURN_IF_ERROR(Write(text.ToText(), out));
      return Flow::kNext;
    }
    case Statement::Kind::kWith: {
      Scope& inner = *NewScope(&scope);
      for (const Parameter& parameter : statement.parameters) {
        NABLA_ASSIGN_OR_RETURN(Value value, Evaluate(*parameter.default_value, scope));
        SetVariable(inner, parameter.name, std::move(value));
      }
      return Execute(statement.body, inner, out);
    }
    case Statement::Kind::kGroup:
      return Execute(statement.body, *NewScope(&scope), out);
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  return absl::InternalError("unknown statement");
}

absl::StatusOr<Evaluator::Flow> Evaluator::ExecuteFor(const Statement& statement, Scope& scope, std::string& out) {
  NABLA_ASSIGN_OR_RETURN(const Value iterable, Evaluate(*statement.expressions[0], scope));
  NABLA_ASSIGN_OR_RETURN(Value::Items items, Iterate(iterable));
  NABLA_RETURN_IF_ERROR(context_.Charge(items.size(), sizeof(Value)));
  if (statement.expressions.size() > 1) {
    Value::Items kept;
    for (Value& item : items) {
      Scope& inner = *NewScope(&scope);
      NABLA_RETURN_IF_ERROR(Assign(*statement.target, item, inner));
      NABLA_ASSIGN_OR_RETURN(const Value keeps, Evaluate(*statement.expressions[1], inner));
      if (keeps.IsTrue()) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  if (items.empty()) return Execute(statement.else_body, scope, out);
  Loop* loop = context_.Own(std::make_unique<Loop>(std::move(items)));
  for (size_t i = 0; i < loop->items().size(); ++i) {
    loop->MoveTo(i);
    Scope& inner = *NewScope(&scope);
    SetVariable(inner, "loop", Value(loop));
    NABLA_RETURN_IF_ERROR(Assign(*statement.target, loop->items()[i], inner));
    NABLA_ASSIGN_OR_RETURN(const Flow flow, Execute(statement.body, inner, out));
    if (flow == Flow::kBreak) break;
  }
  return Flow::kNext;
}

absl::StatusOr<Value> Evaluator::ExecuteToText(const Body& body, Scope& scope) {
  std::string text;
  NABLA_RETURN_IF_ERROR(Execute(body, *NewScope(&scope), text).status());
  return Value(std::move(text));
}

absl::Status Evaluator::ExecuteCallBlock(const Statement& statement, Scope& scope, std::string& out) {
  const Expression& call = *statement.expressions[0];
  NABLA_ASSIGN_OR_RETURN(const Value callee, Evaluate(*call.operands[0], scope));
  NABLA_RETURN_IF_ERROR(RequireDefined(callee));
  if (!callee.IsCallable()) {
    return absl::InvalidArgumentError(absl::StrCat("'", callee.TypeName(), "' object is not callable"));
  }
  NABLA_ASSIGN_OR_RETURN(CallArguments arguments, EvaluateArguments(call, 1, scope));
  arguments.named.emplace_back("caller", MakeMacro("caller", statement, scope));
  NABLA_ASSIGN_OR_RETURN(const Value text, callee.function()(context_, arguments));
  return Write(text.ToText(), out);
}

Value Evaluator::MakeMacro(const std::string& name, const Statement& statement, Scope& scope) {
  return Value::Callable(name, [this, &statement, &scope](RenderContext&, const CallArguments& arguments) {
    return CallMacro(statement, scope, arguments);
  });
}

absl::StatusOr<Value> Evaluator::CallMacro(const Statement& macro, Scope& outer, const CallArguments& arguments) {
  Scope& scope = *NewScope(&outer);
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    if (const Value* given = arguments.Find(i, parameter.name)) {
      SetVariable(scope, parameter.name, *given);
    } else if (parameter.default_value != nullptr) {
      NABLA_ASSIGN_OR_RETURN(Value value, Evaluate(*parameter.default_value, scope));
      SetVariable(scope, parameter.name, std::move(value));
    } else {
      SetVariable(scope, parameter.name,
                  Value::Undefined(absl::StrCat("parameter '", parameter.name, "' was not provided")));
    }
  }
  // Further arguments are in varargs and kwargs.
  Value::Items more;
  for (size_t i = macro.parameters.size(); i < arguments.positional.size(); ++i)
    more.push_back(arguments.positional[i]);
  SetVariable(scope, "varargs", Value::Sequence(SequenceKind::kTuple, std::move(more)));
  Value::Entries named;
  for (const auto& argument : arguments.named) {
    const bool known =
        std::any_of(macro.parameters.begin(), macro.parameters.end(),
                    [&argument](const Parameter& parameter) { return parameter.name == argument.first; });
    if (argument.first == "caller") {
      SetVariable(scope, argument.first, argument.second);
    } else if (!known) {
      SetEntry(named, Value(argument.first), argument.second);
    }
  }
  SetVariable(scope, "kwargs", Value::Dict(std::move(named)));
  return ExecuteToText(macro.body, scope);
}

absl::StatusOr<Value> Evaluator::Evaluate(const Expression& expression, Scope& scope) {
  absl::Status status = context_.CountStep();
  if (++depth_ > kDeepestEvaluation) status = absl::InvalidArgumentError("blocks and calls are nested too deep");
  absl::StatusOr<Value> value = status.ok() ? EvaluateNode(expression, scope) : status;
  --depth_;
  if (!value.ok()) return context_.Locate(value.status(), expression.line);
  return value;
}

absl::StatusOr<Value> Evaluator::EvaluateNode(const Expression& expression, Scope& scope) {
  const auto operand = [&](size_t i) { return Evaluate(*expression.operands[i], scope); };
  switch (expression.kind) {
    case Expression::Kind::kLiteral:
      return expression.literal;
    case Expression::Kind::kName:
      return GetVariable(&scope, expression.name);
    case Expression::Kind::kList:
    case Expression::Kind::kTuple:
    case Expression::Kind::kDict:
      return EvaluateContainer(expression, scope);
    case Expression::Kind::kAttribute: {
      NABLA_ASSIGN_OR_RETURN(const Value value, operand(0));
      return GetAttribute(value, expression.name);
    }
    case Expression::Kind::kItem: {
      NABLA_ASSIGN_OR_RETURN(const Value value, operand(0));
      NABLA_ASSIGN_OR_RETURN(const Value key, operand(1));
      return GetItem(value, key);
    }
    case Expression::Kind::kSlice: {
      Value parts[4];
      for (size_t i = 0; i < 4; ++i) {
        if (expression.operands[i] == nullptr) continue;
        NABLA_ASSIGN_OR_RETURN(parts[i], operand(i));
      }
      return GetSlice(parts[0], parts[1], parts[2], parts[3]);
    }
    case Expression::Kind::kCall:
      return EvaluateCall(expression, scope);
    case Expression::Kind::kFilter: {
      NABLA_ASSIGN_OR_RETURN(const CallArguments arguments, EvaluateArguments(expression, 0, scope));
      return ApplyFilter(context_, expression.name, arguments);
    }
    case Expression::Kind::kTest: {
      NABLA_ASSIGN_OR_RETURN(const CallArguments arguments, EvaluateArguments(expression, 0, scope));
      NABLA_ASSIGN_OR_RETURN(const bool passes, ApplyTest(context_, expression.name, arguments));
      return Value(passes);
    }
    case Expression::Kind::kNot: {
      NABLA_ASSIGN_OR_RETURN(const Value value, operand(0));
      return Value(!value.IsTrue());
    }
    case Expression::Kind::kUnary: {
      NABLA_ASSIGN_OR_RETURN(const Value value, operand(0));
      return ApplyUnary(expression.name, value);
    }
    case Expression::Kind::kBinary: {
      NABLA_ASSIGN_OR_RETURN(const Value left, operand(0));
      NABLA_ASSIGN_OR_RETURN(const Value right, operand(1));
      return ApplyBinary(context_, expression.name, left, right);
    }
    case Expression::Kind::kComparison:
      return EvaluateComparison(expression, scope);
    case Expression::Kind::kAnd:
    case Expression::Kind::kOr: {
      NABLA_ASSIGN_OR_RETURN(Value left, operand(0));
      if (left.IsTrue() == (expression.kind == Expression::Kind::kOr)) return left;
      return operand(1);
    }
    case Expression::Kind::kConditional: {
      NABLA_ASSIGN_OR_RETURN(const Value condition, operand(1));
      if (condition.IsTrue()) return operand(0);
      if (expression.operands[2] != nullptr) return operand(2);
      return Value::Undefined("the inline if-expression evaluated to false and no else section was defined.");
    }
  }
  return absl::InternalError("unknown expression");
}

absl::StatusOr<Value> Evaluator::EvaluateContainer(const Expression& expression, Scope& scope) {
  Value::Items items;
  for (const ExpressionPtr& operand : expression.operands) {
    NABLA_ASSIGN_OR_RETURN(Value item, Evaluate(*operand, scope));
    items.push_back(std::move(item));
  }
  NABLA_RETURN_IF_ERROR(context_.Charge(items.size(), sizeof(Value)));
  if (expression.kind == Expression::Kind::kList) return Value::List(std::move(items));
  if (expression.kind == Expression::Kind::kTuple) return Value::Sequence(SequenceKind::kTuple, std::move(items));
  Value::Entries entries;
  for (size_t i = 0; i < items.size(); i += 2) SetEntry(entries, items[i], items[i + 1]);
  return Value::Dict(std::move(entries));
}

absl::StatusOr<Value> Evaluator::EvaluateComparison(const Expression& expression, Scope& scope) {
  NABLA_ASSIGN_OR_RETURN(Value left, Evaluate(*expression.operands[0], scope));
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    NABLA_ASSIGN_OR_RETURN(Value right, Evaluate(*expression.operands[i + 1], scope));
    NABLA_ASSIGN_OR_RETURN(const bool holds, ApplyComparison(expression.operators[i], left, right));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

absl::StatusOr<CallArguments> Evaluator::EvaluateArguments(const Expression& expression, size_t first, Scope& scope) {
  CallArguments arguments;
  for (size_t i = first; i < expression.operands.size(); ++i) {
    NABLA_ASSIGN_OR_RETURN(Value value, Evaluate(*expression.operands[i], scope));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, operand] : expression.named) {
    NABLA_ASSIGN_OR_RETURN(Value value, Evaluate(*operand, scope));
    arguments.named.emplace_back(name, std::move(value));
  }
  return arguments;
}

absl::StatusOr<Value> Evaluator::EvaluateCall(const Expression& expression, Scope& scope) {
  NABLA_ASSIGN_OR_RETURN(const Value callee, Evaluate(*expression.operands[0], scope));
  NABLA_RETURN_IF_ERROR(RequireDefined(callee));
  if (!callee.IsCallable()) {
    return absl::InvalidArgumentError(absl::StrCat("'", callee.TypeName(), "' object is not callable"));
  }
  NABLA_ASSIGN_OR_RETURN(const CallArguments arguments, EvaluateArguments(expression, 1, scope));
  return callee.function()(context_, arguments);
}

absl::StatusOr<Value> Evaluator::ApplyFilterChain(const Expression& filter, const Value& input, Scope& scope) {
  Value value = input;
  if (filter.operands[0] != nullptr) {
    NABLA_ASSIGN_OR_RETURN(value, ApplyFilterChain(*filter.operands[0], input, scope));
  }
  NABLA_ASSIGN_OR_RETURN(CallArguments arguments, EvaluateArguments(filter, 1, scope));
  arguments.positional.insert(arguments.positional.begin(), value);
  return ApplyFilter(context_, filter.name, arguments);
}

}  // namespace nabla::jinja
