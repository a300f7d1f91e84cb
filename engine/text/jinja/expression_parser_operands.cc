// ExpressionParser's operands: literals, lists and dicts, what follows them (attribute, item, call), filters and tests.
#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/expression_parser.h"

namespace nabla::jinja {

absl::StatusOr<ExpressionPtr> ExpressionParser::ParsePostfixExpression() {
  NABLA_ASSIGN_OR_RETURN(ExpressionPtr node, ParsePrimary());
  return ParsePostfix(std::move(node));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParsePrimary() {
  auto literal = Make(Expression::Kind::kLiteral);
  const std::string text = Current().text;
  switch (Current().type) {
    case TokenType::kString: {
      std::string joined;
      for (; Current().type == TokenType::kString; Advance()) joined.append(Current().text);
      literal->literal = Value(std::move(joined));
      return literal;
    }
    case TokenType::kInteger: {
      int64_t value = 0;
      if (!absl::SimpleAtoi(text, &value)) return Error("an integer of 64 bits");
      literal->literal = Value(value);
      Advance();
      return literal;
    }
    case TokenType::kFloat: {
      double value = 0;
      if (!absl::SimpleAtod(text, &value)) return Error("a number");
      literal->literal = Value(value);
      Advance();
      return literal;
    }
    case TokenType::kName:
      Advance();
      if (text == "true" || text == "True" || text == "false" || text == "False") {
        literal->literal = Value(text == "true" || text == "True");
      } else if (text != "none" && text != "None") {
        literal->kind = Expression::Kind::kName;
        literal->name = text;
      }
      return literal;
    case TokenType::kOperator:
      if (text == "(") return ParseBracketed();
      if (text == "[") return ParseList();
      if (text == "{") return ParseDict();
      break;
    default:
      break;
  }
  return Error("an expression");
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseBracketed() {
  Advance();
  if (SkipOperator(")")) return Make(Expression::Kind::kTuple);
  NABLA_ASSIGN_OR_RETURN(ExpressionPtr node, ParseTuple());
  NABLA_RETURN_IF_ERROR(ExpectOperator(")"));
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseList() {
  auto list = Make(Expression::Kind::kList);
  Advance();
  while (!AtOperator("]")) {
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr item, ParseExpression());
    NABLA_RETURN_IF_ERROR(Adopt(*list, std::move(item)));
    if (!SkipOperator(",")) break;
  }
  NABLA_RETURN_IF_ERROR(ExpectOperator("]"));
  return list;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseDict() {
  auto dict = Make(Expression::Kind::kDict);
  Advance();
  while (!AtOperator("}")) {
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr key, ParseExpression());
    NABLA_RETURN_IF_ERROR(Adopt(*dict, std::move(key)));
    NABLA_RETURN_IF_ERROR(ExpectOperator(":"));
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr value, ParseExpression());
    NABLA_RETURN_IF_ERROR(Adopt(*dict, std::move(value)));
    if (!SkipOperator(",")) break;
  }
  NABLA_RETURN_IF_ERROR(ExpectOperator("}"));
  return dict;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParsePostfix(ExpressionPtr node) {
  while (true) {
    if (SkipOperator(".")) {
      const bool is_index = Current().type == TokenType::kInteger;
      auto access = Make(is_index ? Expression::Kind::kItem : Expression::Kind::kAttribute);
      NABLA_RETURN_IF_ERROR(Adopt(*access, std::move(node)));
      if (is_index) {
        NABLA_ASSIGN_OR_RETURN(ExpressionPtr index, ParsePrimary());
        NABLA_RETURN_IF_ERROR(Adopt(*access, std::move(index)));
      } else {
        NABLA_ASSIGN_OR_RETURN(access->name, ExpectName("the name of an attribute"));
      }
      node = std::move(access);
    } else if (AtOperator("[")) {
      NABLA_ASSIGN_OR_RETURN(node, ParseSubscript(std::move(node)));
    } else if (AtOperator("(")) {
      NABLA_ASSIGN_OR_RETURN(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseSubscript(ExpressionPtr node) {
  auto item = Make(Expression::Kind::kItem);
  NABLA_RETURN_IF_ERROR(Adopt(*item, std::move(node)));
  Advance();
  for (int part = 0; part < 3; ++part) {
    ExpressionPtr bound;
    if (!AtOperator(":") && !AtOperator("]")) {
      NABLA_ASSIGN_OR_RETURN(bound, ParseExpression());
    }
    NABLA_RETURN_IF_ERROR(Adopt(*item, std::move(bound)));
    if (!SkipOperator(":")) break;
    item->kind = Expression::Kind::kSlice;
  }
  NABLA_RETURN_IF_ERROR(ExpectOperator("]"));
  if (item->kind == Expression::Kind::kItem && item->operands[1] == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("line ", item->line, ": expected an index inside []"));
  }
  if (item->kind == Expression::Kind::kSlice) item->operands.resize(4);
  return item;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseCall(ExpressionPtr callee) {
  auto call = Make(Expression::Kind::kCall);
  NABLA_RETURN_IF_ERROR(Adopt(*call, std::move(callee)));
  NABLA_RETURN_IF_ERROR(ParseArguments(*call));
  return call;
}

absl::Status ExpressionParser::ParseArguments(Expression& call) {
  NABLA_RETURN_IF_ERROR(ExpectOperator("("));
  while (!AtOperator(")")) {
    if (AtOperator("*") || AtOperator("**")) return Error("an argument (unpacking with * is not supported)");
    const bool is_named =
        Current().type == TokenType::kName && Next().type == TokenType::kOperator && Next().text == "=";
    std::string name = Current().text;
    if (is_named) {
      Advance();
      Advance();
    } else if (!call.named.empty()) {
      return Error("a named argument (positional ones come first)");
    }
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr argument, ParseExpression());
    if (is_named) {
      call.depth = std::max(call.depth, argument->depth + 1);
      call.named.emplace_back(std::move(name), std::move(argument));
    } else {
      NABLA_RETURN_IF_ERROR(Adopt(call, std::move(argument)));
    }
    if (!SkipOperator(",")) break;
  }
  return ExpectOperator(")");
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseFilters(ExpressionPtr node) {
  while (true) {
    if (AtOperator("|")) {
      NABLA_ASSIGN_OR_RETURN(node, ParseFilter(std::move(node)));
    } else if (AtName("is")) {
      NABLA_ASSIGN_OR_RETURN(node, ParseTest(std::move(node)));
    } else if (AtOperator("(")) {
      NABLA_ASSIGN_OR_RETURN(node, ParseCall(std::move(node)));
    } else {
      return node;
    }
  }
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseFilter(ExpressionPtr node) {
  NABLA_RETURN_IF_ERROR(ExpectOperator("|"));
  auto filter = Make(Expression::Kind::kFilter);
  NABLA_ASSIGN_OR_RETURN(filter->name, ExpectName("the name of a filter"));
  NABLA_RETURN_IF_ERROR(Adopt(*filter, std::move(node)));
  if (AtOperator("(")) NABLA_RETURN_IF_ERROR(ParseArguments(*filter));
  return filter;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseFilterChain() {
  auto filter = Make(Expression::Kind::kFilter);
  NABLA_ASSIGN_OR_RETURN(filter->name, ExpectName("the name of a filter"));
  filter->operands.push_back(nullptr);
  if (AtOperator("(")) NABLA_RETURN_IF_ERROR(ParseArguments(*filter));
  ExpressionPtr node = std::move(filter);
  while (AtOperator("|")) {
    NABLA_ASSIGN_OR_RETURN(node, ParseFilter(std::move(node)));
  }
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseTest(ExpressionPtr node) {
  Advance();
  const bool negated = SkipName("not");
  auto test = Make(Expression::Kind::kTest);
  NABLA_ASSIGN_OR_RETURN(test->name, ExpectName("the name of a test"));
  NABLA_RETURN_IF_ERROR(Adopt(*test, std::move(node)));
  const TokenType next = Current().type;
  if (AtOperator("(")) {
    NABLA_RETURN_IF_ERROR(ParseArguments(*test));
  } else if (next == TokenType::kString || next == TokenType::kInteger || next == TokenType::kFloat ||
             AtOperator("[") || AtOperator("{") ||
             (next == TokenType::kName && !AtName("else") && !AtName("or") && !AtName("and") && !AtName("if") &&
              !AtName("is") && !AtName("in") && !AtName("not"))) {
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr argument, ParsePostfixExpression());
    NABLA_RETURN_IF_ERROR(Adopt(*test, std::move(argument)));
  }
  if (!negated) return test;
  auto negation = Make(Expression::Kind::kNot);
  NABLA_RETURN_IF_ERROR(Adopt(*negation, std::move(test)));
  return negation;
}

}  // namespace nabla::jinja
