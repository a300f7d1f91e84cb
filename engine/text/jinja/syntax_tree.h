// What the parser makes of a template and the evaluator walks. Plain data, immutable once parsed, hence thread-safe.
//
//   {{ a.b | trim }}  is  Statement{kPrint, expressions: [kFilter "trim" [kAttribute "b" [kName "a"]]]}
#ifndef NABLA_ENGINE_TEXT_JINJA_SYNTAX_TREE_H_
#define NABLA_ENGINE_TEXT_JINJA_SYNTAX_TREE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/text/jinja/value.h"

namespace nabla::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

struct Expression {
  enum class Kind {
    kLiteral,      // literal
    kName,         // name
    kList,         // operands
    kTuple,        // operands
    kDict,         // operands: key, value, key, value, ...
    kAttribute,    // operands[0] . name
    kItem,         // operands[0] [ operands[1] ]
    kSlice,        // operands[0] [ operands[1] : operands[2] : operands[3] ], null where left out
    kCall,         // operands[0] ( operands[1..], named )
    kFilter,       // operands[0] | name ( operands[1..], named ); operands[0] is null in a filter block
    kTest,         // operands[0] is name ( operands[1..], named )
    kNot,          // operands[0]
    kUnary,        // name ("-" or "+") operands[0]
    kBinary,       // operands[0] name operands[1]; name is + - * / // % ** ~
    kComparison,   // operands[0] operators[0] operands[1] operators[1] ...; also "in" and "not in"
    kAnd,          // operands[0], operands[1]
    kOr,           // operands[0], operands[1]
    kConditional,  // operands[0] if operands[1] else operands[2] (null: undefined)
  };

  Kind kind;
  int line = 0;
  int depth = 1;  // of the tree below; the parser bounds it
  std::string name;
  Value literal;
  std::vector<ExpressionPtr> operands;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> operators;
};

struct Statement;
using Body = std::vector<Statement>;

struct Parameter {
  std::string name;
  ExpressionPtr default_value;  // null: none
};

struct Statement {
  enum class Kind {
    kText,         // text
    kPrint,        // expressions[0]
    kIf,           // expressions[0], body, else_body
    kFor,          // target in expressions[0] [if expressions[1]], body, else_body
    kSet,          // target = expressions[0]
    kSetBlock,     // target = body [| expressions[0]]
    kMacro,        // name(parameters), body
    kCallBlock,    // call(parameters) expressions[0], body
    kFilterBlock,  // expressions[0], body
    kWith,         // parameters with their values, body
    kGroup,        // body ({% generation %}, which only marks what the assistant says)
    kBreak,
    kContinue,
  };

  Kind kind;
  int line = 0;
  std::string text;
  std::string name;
  ExpressionPtr target;  // kName, kTuple of targets, or kAttribute of a namespace
  std::vector<ExpressionPtr> expressions;
  std::vector<Parameter> parameters;
  Body body;
  Body else_body;
};

}  // namespace nabla::jinja

#endif  // NABLA_ENGINE_TEXT_JINJA_SYNTAX_TREE_H_
