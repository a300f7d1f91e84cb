#include "engine/text/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/expression_parser.h"
#include "engine/text/jinja/lexer.h"

namespace nabla::jinja {
namespace {

constexpr int kDeepestBlocks = 100;

class Parser {
 public:
  explicit Parser(const std::vector<Token>& tokens) : in_(tokens) {}

  absl::StatusOr<Body> Run() { return ParseBody({}); }

 private:
  using Ends = std::initializer_list<absl::string_view>;
  using Handler = absl::StatusOr<Statement> (Parser::*)(Statement);

  // Statements up to a tag that begins with one of `ends`; its name is then current. Without ends: the whole template.
  absl::StatusOr<Body> ParseBody(Ends ends) {
    if (++nesting_ > kDeepestBlocks) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", in_.Current().line, ": more than ", kDeepestBlocks, " blocks inside one another"));
    }
    Body body;
    while (in_.Current().type != TokenType::kEnd) {
      Statement statement{};
      statement.line = in_.Current().line;
      if (in_.Current().type == TokenType::kText) {
        statement.kind = Statement::Kind::kText;
        statement.text = in_.Current().text;
        in_.Advance();
      } else if (in_.Current().type == TokenType::kPrintBegin) {
        in_.Advance();
        statement.kind = Statement::Kind::kPrint;
        NABLA_ASSIGN_OR_RETURN(ExpressionPtr value, in_.ParseTuple());
        statement.expressions.push_back(std::move(value));
        if (in_.Current().type != TokenType::kPrintEnd) return in_.Error("}}");
        in_.Advance();
      } else {
        in_.Advance();
        if (std::any_of(ends.begin(), ends.end(), [this](absl::string_view end) { return in_.AtName(end); })) {
          --nesting_;
          return body;
        }
        NABLA_ASSIGN_OR_RETURN(statement, ParseStatement(std::move(statement)));
      }
      body.push_back(std::move(statement));
    }
    if (ends.size() > 0) return in_.Error(absl::StrCat("{% ", absl::StrJoin(ends, " %} or {% "), " %}"));
    --nesting_;
    return body;
  }

  absl::StatusOr<Statement> ParseStatement(Statement statement) {
    static constexpr std::pair<absl::string_view, Handler> kHandlers[] = {
        {"if", &Parser::ParseIf},          {"for", &Parser::ParseFor},
        {"set", &Parser::ParseSet},        {"macro", &Parser::ParseMacro},
        {"call", &Parser::ParseCallBlock}, {"filter", &Parser::ParseFilterBlock},
        {"with", &Parser::ParseWith},      {"generation", &Parser::ParseGeneration},
        {"break", &Parser::ParseBreak},    {"continue", &Parser::ParseContinue},
    };
    for (const auto& [name, handler] : kHandlers) {
      if (!in_.SkipName(name)) continue;
      return (this->*handler)(std::move(statement));
    }
    return in_.Error("a tag (if, for, set, macro, call, filter, with, generation, break or continue)");
  }

  absl::Status CloseTag() {
    if (in_.Current().type != TokenType::kBlockEnd) return in_.Error("%}");
    in_.Advance();
    return absl::OkStatus();
  }

  // The body up to {% `end` %}, which is consumed.
  absl::StatusOr<Body> ParseBlock(absl::string_view end) {
    NABLA_RETURN_IF_ERROR(CloseTag());
    NABLA_ASSIGN_OR_RETURN(Body body, ParseBody({end}));
    in_.Advance();
    if (end == "endmacro" && in_.Current().type == TokenType::kName) in_.Advance();
    NABLA_RETURN_IF_ERROR(CloseTag());
    return body;
  }

  absl::StatusOr<Statement> ParseIf(Statement statement) {
    statement.kind = Statement::Kind::kIf;
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr condition, in_.ParseTuple());
    statement.expressions.push_back(std::move(condition));
    NABLA_RETURN_IF_ERROR(CloseTag());
    NABLA_ASSIGN_OR_RETURN(statement.body, ParseBody({"elif", "else", "endif"}));
    if (in_.AtName("elif")) {
      Statement inner{};
      inner.line = in_.Current().line;
      in_.Advance();
      if (++nesting_ > kDeepestBlocks) return in_.Error("{% else %} or {% endif %} (too many {% elif %})");
      NABLA_ASSIGN_OR_RETURN(inner, ParseIf(std::move(inner)));
      --nesting_;
      statement.else_body.push_back(std::move(inner));
      return statement;
    }
    if (in_.SkipName("else")) {
      NABLA_ASSIGN_OR_RETURN(statement.else_body, ParseBlock("endif"));
      return statement;
    }
    in_.Advance();
    NABLA_RETURN_IF_ERROR(CloseTag());
    return statement;
  }

  absl::StatusOr<Statement> ParseFor(Statement statement) {
    statement.kind = Statement::Kind::kFor;
    NABLA_ASSIGN_OR_RETURN(statement.target, in_.ParseTarget(/*with_attribute=*/false));
    if (!in_.SkipName("in")) return in_.Error("'in'");
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr iterable, in_.ParseIterable());
    statement.expressions.push_back(std::move(iterable));
    if (in_.SkipName("if")) {
      NABLA_ASSIGN_OR_RETURN(ExpressionPtr condition, in_.ParseExpression());
      statement.expressions.push_back(std::move(condition));
    }
    if (in_.AtName("recursive")) return in_.Error("%} (recursive loops are not supported)");
    NABLA_RETURN_IF_ERROR(CloseTag());
    NABLA_ASSIGN_OR_RETURN(statement.body, ParseBody({"else", "endfor"}));
    if (in_.SkipName("else")) {
      NABLA_ASSIGN_OR_RETURN(statement.else_body, ParseBlock("endfor"));
      return statement;
    }
    in_.Advance();
    NABLA_RETURN_IF_ERROR(CloseTag());
    return statement;
  }

  absl::StatusOr<Statement> ParseSet(Statement statement) {
    NABLA_ASSIGN_OR_RETURN(statement.target, in_.ParseTarget(/*with_attribute=*/true));
    if (in_.SkipOperator("=")) {
      statement.kind = Statement::Kind::kSet;
      NABLA_ASSIGN_OR_RETURN(ExpressionPtr value, in_.ParseTuple());
      statement.expressions.push_back(std::move(value));
      NABLA_RETURN_IF_ERROR(CloseTag());
      return statement;
    }
    statement.kind = Statement::Kind::kSetBlock;
    if (in_.SkipOperator("|")) {
      NABLA_ASSIGN_OR_RETURN(ExpressionPtr filters, in_.ParseFilterChain());
      statement.expressions.push_back(std::move(filters));
    }
    NABLA_ASSIGN_OR_RETURN(statement.body, ParseBlock("endset"));
    return statement;
  }

  absl::Status ParseParameters(std::vector<Parameter>& parameters) {
    NABLA_RETURN_IF_ERROR(in_.ExpectOperator("("));
    while (!in_.AtOperator(")")) {
      Parameter parameter;
      NABLA_ASSIGN_OR_RETURN(parameter.name, in_.ExpectName("the name of a parameter"));
      if (in_.SkipOperator("=")) {
        NABLA_ASSIGN_OR_RETURN(parameter.default_value, in_.ParseExpression());
      } else if (!parameters.empty() && parameters.back().default_value != nullptr) {
        return in_.Error("'=' (a parameter before has a default)");
      }
      parameters.push_back(std::move(parameter));
      if (!in_.SkipOperator(",")) break;
    }
    return in_.ExpectOperator(")");
  }

  absl::StatusOr<Statement> ParseMacro(Statement statement) {
    statement.kind = Statement::Kind::kMacro;
    NABLA_ASSIGN_OR_RETURN(statement.name, in_.ExpectName("the name of a macro"));
    NABLA_RETURN_IF_ERROR(ParseParameters(statement.parameters));
    NABLA_ASSIGN_OR_RETURN(statement.body, ParseBlock("endmacro"));
    return statement;
  }

  absl::StatusOr<Statement> ParseCallBlock(Statement statement) {
    statement.kind = Statement::Kind::kCallBlock;
    if (in_.AtOperator("(")) NABLA_RETURN_IF_ERROR(ParseParameters(statement.parameters));
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr call, in_.ParsePostfixExpression());
    if (call->kind != Expression::Kind::kCall) return in_.Error("a call");
    statement.expressions.push_back(std::move(call));
    NABLA_ASSIGN_OR_RETURN(statement.body, ParseBlock("endcall"));
    return statement;
  }

  absl::StatusOr<Statement> ParseFilterBlock(Statement statement) {
    statement.kind = Statement::Kind::kFilterBlock;
    NABLA_ASSIGN_OR_RETURN(ExpressionPtr filters, in_.ParseFilterChain());
    statement.expressions.push_back(std::move(filters));
    NABLA_ASSIGN_OR_RETURN(statement.body, ParseBlock("endfilter"));
    return statement;
  }

  absl::StatusOr<Statement> ParseWith(Statement statement) {
    statement.kind = Statement::Kind::kWith;
    while (in_.Current().type == TokenType::kName) {
      Parameter parameter;
      NABLA_ASSIGN_OR_RETURN(parameter.name, in_.ExpectName("a name"));
      NABLA_RETURN_IF_ERROR(in_.ExpectOperator("="));
      NABLA_ASSIGN_OR_RETURN(parameter.default_value, in_.ParseExpression());
      statement.parameters.push_back(std::move(parameter));
      if (!in_.SkipOperator(",")) break;
    }
    NABLA_ASSIGN_OR_RETURN(statement.body, ParseBlock("endwith"));
    return statement;
  }

  absl::StatusOr<Statement> ParseGeneration(Statement statement) {
    statement.kind = Statement::Kind::kGroup;
    NABLA_ASSIGN_OR_RETURN(statement.body, ParseBlock("endgeneration"));
    return statement;
  }

  absl::StatusOr<Statement> ParseBreak(Statement statement) {
    statement.kind = Statement::Kind::kBreak;
    NABLA_RETURN_IF_ERROR(CloseTag());
    return statement;
  }

  absl::StatusOr<Statement> ParseContinue(Statement statement) {
    statement.kind = Statement::Kind::kContinue;
    NABLA_RETURN_IF_ERROR(CloseTag());
    return statement;
  }

  ExpressionParser in_;
  int nesting_ = 0;
};

}  // namespace

absl::StatusOr<Body> ParseTemplate(const std::string& source) {
  NABLA_ASSIGN_OR_RETURN(const std::vector<Token> tokens, Tokenize(source));
  return Parser(tokens).Run();
}

}  // namespace nabla::jinja
