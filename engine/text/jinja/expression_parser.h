// Parses expressions with Jinja's precedence, from loosest to tightest: conditional, or, and, not, comparison, + -, ~,
// * / // %, **, unary, postfix (attribute, item, call), filters and tests.
//
// Not thread-safe: walks one token list, which must outlive it. Errors are InvalidArgument, "line N: ...".
//
//   ExpressionParser parser(tokens);
//   NABLA_ASSIGN_OR_RETURN(ExpressionPtr condition, parser.ParseExpression());
//   if (!parser.AtOperator(",")) ...
#ifndef NABLA_ENGINE_TEXT_JINJA_EXPRESSION_PARSER_H_
#define NABLA_ENGINE_TEXT_JINJA_EXPRESSION_PARSER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/jinja/lexer.h"
#include "engine/text/jinja/syntax_tree.h"

namespace nabla::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(const std::vector<Token>& tokens) : tokens_(tokens) {}

  const Token& Current() const { return tokens_[position_]; }
  const Token& Next() const { return tokens_[position_ + (Current().type == TokenType::kEnd ? 0 : 1)]; }
  void Advance();
  bool AtName(absl::string_view name) const;
  bool AtOperator(absl::string_view text) const;
  bool SkipName(absl::string_view name);
  bool SkipOperator(absl::string_view text);
  absl::Status ExpectOperator(absl::string_view text);
  absl::StatusOr<std::string> ExpectName(absl::string_view what);
  absl::Status Error(absl::string_view expected) const;  // "line N: expected X, found Y"

  absl::StatusOr<ExpressionPtr> ParseExpression();
  // Without a conditional at the top: what stands before a for loop's "if".
  absl::StatusOr<ExpressionPtr> ParseIterable();
  // One expression, or a tuple of several with commas.
  absl::StatusOr<ExpressionPtr> ParseTuple();
  // What set and for assign to.
  absl::StatusOr<ExpressionPtr> ParseTarget(bool with_attribute);
  // The filters of {% filter a | b %} and {% set x | a %}, applied to a null operand.
  absl::StatusOr<ExpressionPtr> ParseFilterChain();
  absl::StatusOr<ExpressionPtr> ParsePostfixExpression();

 private:
  using Level = absl::StatusOr<ExpressionPtr> (ExpressionParser::*)();

  std::unique_ptr<Expression> Make(Expression::Kind kind, std::string name = "") const;
  // Adds an operand and keeps the depth; an error where the tree gets too deep.
  absl::Status Adopt(Expression& parent, ExpressionPtr child) const;
  absl::StatusOr<ExpressionPtr> Combine(Expression::Kind kind, std::string name, ExpressionPtr left,
                                        ExpressionPtr right) const;
  absl::StatusOr<ExpressionPtr> ParseBinaryLevel(std::initializer_list<absl::string_view> operators, Level next);

  absl::StatusOr<ExpressionPtr> ParseOr();
  absl::StatusOr<ExpressionPtr> ParseAnd();
  absl::StatusOr<ExpressionPtr> ParseNot();
  absl::StatusOr<ExpressionPtr> ParseComparison();
  absl::StatusOr<ExpressionPtr> ParseSum();
  absl::StatusOr<ExpressionPtr> ParseConcatenation();
  absl::StatusOr<ExpressionPtr> ParseProduct();
  absl::StatusOr<ExpressionPtr> ParsePower();
  absl::StatusOr<ExpressionPtr> ParseUnaryWithFilters();
  absl::StatusOr<ExpressionPtr> ParseUnary();
  absl::StatusOr<ExpressionPtr> ParsePrimary();
  absl::StatusOr<ExpressionPtr> ParsePostfix(ExpressionPtr node);
  absl::StatusOr<ExpressionPtr> ParseFilters(ExpressionPtr node);
  absl::StatusOr<ExpressionPtr> ParseFilter(ExpressionPtr node);
  absl::StatusOr<ExpressionPtr> ParseTest(ExpressionPtr node);
  absl::StatusOr<ExpressionPtr> ParseCall(ExpressionPtr callee);
  absl::StatusOr<ExpressionPtr> ParseSubscript(ExpressionPtr node);
  absl::StatusOr<ExpressionPtr> ParseBracketed();
  absl::StatusOr<ExpressionPtr> ParseList();
  absl::StatusOr<ExpressionPtr> ParseDict();
  absl::Status ParseArguments(Expression& call);

  const std::vector<Token>& tokens_;
  size_t position_ = 0;
  int nesting_ = 0;
};

}  // namespace nabla::jinja

#endif  // NABLA_ENGINE_TEXT_JINJA_EXPRESSION_PARSER_H_
