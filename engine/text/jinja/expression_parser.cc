#include "engine/text/jinja/expression_parser.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace nabla::jinja {
namespace {

constexpr int kDeepestExpression = 200;
constexpr int kDeepestBrackets = 60;

}  // namespace

void ExpressionParser::Advance() {
  if (Current().type != TokenType::kEnd) ++position_;
}

bool ExpressionParser::AtName(absl::string_view name) const {
  return Current().type == TokenType::kName && Current().text == name;
}

bool ExpressionParser::AtOperator(absl::string_view text) const {
  return Current().type == TokenType::kOperator && Current().text == text;
}

bool ExpressionParser::SkipName(absl::string_view name) {
  if (!AtName(name)) return false;
  Advance();
  return true;
}

bool ExpressionParser::SkipOperator(absl::string_view text) {
  if (!AtOperator(text)) return false;
  Advance();
  return true;
}

absl::Status ExpressionParser::ExpectOperator(absl::string_view text) {
  if (!SkipOperator(text)) return Error(absl::StrCat("'", text, "'"));
  return absl::OkStatus();
}

absl::StatusOr<std::string> ExpressionParser::ExpectName(absl::string_view what) {
  if (Current().type != TokenType::kName) return Error(what);
  std::string name = Current().text;
  Advance();
  return name;
}

absl::Status ExpressionParser::Error(absl::string_view expected) const {
  std::string found;
  switch (Current().type) {
    case TokenType::kText:
    case TokenType::kPrintBegin:
    case TokenType::kBlockBegin:
    case TokenType::kEnd:
      found = "the end of the template";
      break;
    case TokenType::kPrintEnd:
      found = "}}";
      break;
    case TokenType::kBlockEnd:
      found = "%}";
      break;
    default:
      found = absl::StrCat("'", Current().text, "'");
  }
  return absl::InvalidArgumentError(absl::StrCat("line ", Current().line, ": expected ", expected, ", found ", found));
}

std::unique_ptr<Expression> ExpressionParser::Make(Expression::Kind kind, std::string name) const {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->line = Current().line;
  expression->name = std::move(name);
  return expression;
}

absl::Status ExpressionParser::Adopt(Expression& parent, ExpressionPtr child) const {
  if (child != nullptr) {
    parent.depth = std::max(parent.depth, child->depth + 1);
    if (parent.depth > kDeepestExpression) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", parent.line, ": the expression is nested more than ", kDeepestExpression, " deep"));
    }
  }
  parent.operands.push_back(std::move(child));
  return absl::OkStatus();
}

absl::StatusOr<ExpressionPtr> ExpressionParser::Combine(Expression::Kind kind, std::string name, ExpressionPtr left,
                                                        ExpressionPtr right) const {
  auto node = Make(kind, std::move(name));
  node->line = left->line;
  NABLA_RETURN_IF_ERROR(Adopt(*node, std::move(left)));
  NABLA_RETURN_IF_ERROR(Adopt(*node, std::move(right)));
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseTuple() {
  NABLA_ASSIGN_OR_RETURN(ExpressionPtr first, ParseExpression());
  if (!AtOperator(",")) return first;
  auto tuple = Make(Expression::Kind::kTuple);
  NABLA_RETURN_IF_ERROR(Adopt(*tuple, std::move(first)));
  while (SkipOperator(",")) {
    if (Current().type == TokenType::kBlockEnd || Current().type == TokenType::kPrintEnd || AtOperator(")")) break;
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr item, ParseExpression());
    NABLA_RETURN_IF_ERROR(Adopt(*tuple, std::move(item)));
  }
  return tuple;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseTarget(bool with_attribute) {
  const bool in_brackets = SkipOperator("(");
  std::vector<ExpressionPtr> targets;
  bool is_tuple = false;
  do {
    if (Current().type != TokenType::kName) {
      if (is_tuple) break;
      return Error("a name to assign to");
    }
    auto name = Make(Expression::Kind::kName, Current().text);
    Advance();
    if (with_attribute && AtOperator(".")) {
      Advance();
      auto attribute = Make(Expression::Kind::kAttribute);
      NABLA_ASSIGN_OR_RETURN(attribute->name, ExpectName("the name of an attribute"));
      NABLA_RETURN_IF_ERROR(Adopt(*attribute, std::move(name)));
      name = std::move(attribute);
    }
    targets.push_back(std::move(name));
    is_tuple = is_tuple || AtOperator(",");
  } while (SkipOperator(","));
  if (in_brackets) NABLA_RETURN_IF_ERROR(ExpectOperator(")"));
  if (!is_tuple) return std::move(targets[0]);
  auto tuple = Make(Expression::Kind::kTuple);
  for (ExpressionPtr& target : targets) NABLA_RETURN_IF_ERROR(Adopt(*tuple, std::move(target)));
  return tuple;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseExpression() {
  if (++nesting_ > kDeepestBrackets) {
    return absl::InvalidArgumentError(
        absl::StrCat("line ", Current().line, ": more than ", kDeepestBrackets, " expressions inside one another"));
  }
  NABLA_ASSIGN_OR_RETURN(ExpressionPtr value, ParseOr());
  while (SkipName("if")) {
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr condition, ParseOr());
    ExpressionPtr otherwise;
    if (SkipName("else")) {
      NABLA_ASSIGN_OR_RETURN(otherwise, ParseExpression());
    }
    auto conditional = Make(Expression::Kind::kConditional);
    NABLA_RETURN_IF_ERROR(Adopt(*conditional, std::move(value)));
    NABLA_RETURN_IF_ERROR(Adopt(*conditional, std::move(condition)));
    NABLA_RETURN_IF_ERROR(Adopt(*conditional, std::move(otherwise)));
    value = std::move(conditional);
  }
  --nesting_;
  return value;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseIterable() { return ParseOr(); }

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseOr() {
  NABLA_ASSIGN_OR_RETURN(ExpressionPtr left, ParseAnd());
  while (SkipName("or")) {
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr right, ParseAnd());
    NABLA_ASSIGN_OR_RETURN(left, Combine(Expression::Kind::kOr, "", std::move(left), std::move(right)));
  }
  return left;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseAnd() {
  NABLA_ASSIGN_OR_RETURN(ExpressionPtr left, ParseNot());
  while (SkipName("and")) {
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr right, ParseNot());
    NABLA_ASSIGN_OR_RETURN(left, Combine(Expression::Kind::kAnd, "", std::move(left), std::move(right)));
  }
  return left;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseNot() {
  int count = 0;
  while (SkipName("not")) ++count;
  NABLA_ASSIGN_OR_RETURN(ExpressionPtr node, ParseComparison());
  for (; count > 0; --count) {
    auto negation = Make(Expression::Kind::kNot);
    NABLA_RETURN_IF_ERROR(Adopt(*negation, std::move(node)));
    node = std::move(negation);
  }
  return node;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseComparison() {
  static constexpr absl::string_view kOperators[] = {"==", "!=", ">=", "<=", ">", "<"};
  NABLA_ASSIGN_OR_RETURN(ExpressionPtr first, ParseSum());
  auto comparison = Make(Expression::Kind::kComparison);
  comparison->line = first->line;
  while (true) {
    std::string op;
    if (Current().type == TokenType::kOperator &&
        std::find(std::begin(kOperators), std::end(kOperators), Current().text) != std::end(kOperators)) {
      op = Current().text;
    } else if (AtName("in")) {
      op = "in";
    } else if (AtName("not") && Next().type == TokenType::kName && Next().text == "in") {
      op = "not in";
      Advance();
    } else {
      break;
    }
    Advance();
    if (first != nullptr) NABLA_RETURN_IF_ERROR(Adopt(*comparison, std::move(first)));
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr operand, ParseSum());
    NABLA_RETURN_IF_ERROR(Adopt(*comparison, std::move(operand)));
    comparison->operators.push_back(std::move(op));
  }
  if (comparison->operators.empty()) return first;
  return comparison;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseBinaryLevel(std::initializer_list<absl::string_view> operators,
                                                                 Level next) {
  NABLA_ASSIGN_OR_RETURN(ExpressionPtr left, (this->*next)());
  while (Current().type == TokenType::kOperator &&
         std::find(operators.begin(), operators.end(), Current().text) != operators.end()) {
    std::string op = Current().text;
    Advance();
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr right, (this->*next)());
    NABLA_ASSIGN_OR_RETURN(left, Combine(Expression::Kind::kBinary, std::move(op), std::move(left), std::move(right)));
  }
  return left;
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseSum() {
  return ParseBinaryLevel({"+", "-"}, &ExpressionParser::ParseConcatenation);
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseConcatenation() {
  return ParseBinaryLevel({"~"}, &ExpressionParser::ParseProduct);
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseProduct() {
  return ParseBinaryLevel({"*", "/", "//", "%"}, &ExpressionParser::ParsePower);
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParsePower() {
  return ParseBinaryLevel({"**"}, &ExpressionParser::ParseUnaryWithFilters);
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseUnaryWithFilters() {
  NABLA_ASSIGN_OR_RETURN(ExpressionPtr node, ParseUnary());
  return ParseFilters(std::move(node));
}

absl::StatusOr<ExpressionPtr> ExpressionParser::ParseUnary() {
  std::string signs;
  while (AtOperator("-") || AtOperator("+")) {
    signs.append(Current().text);
    Advance();
  }
  NABLA_ASSIGN_OR_RETURN(ExpressionPtr node, ParsePostfixExpression());
  for (size_t i = signs.size(); i > 0; --i) {
    auto unary = Make(Expression::Kind::kUnary, signs.substr(i - 1, 1));
    NABLA_RETURN_IF_ERROR(Adopt(*unary, std::move(node)));
    node = std::move(unary);
  }
  return node;
}

}  // namespace nabla::jinja
