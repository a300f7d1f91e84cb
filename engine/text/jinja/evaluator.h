// Renders a parsed template: one rendering, one Evaluator.
//
// Not thread-safe. Refers to the template's syntax tree, which must outlive it. Errors are InvalidArgument: the text of
// raise_exception, or "chat template, line N: ..." for everything else.
//
//   Evaluator evaluator;
//   evaluator.Define("messages", messages);
//   NABLA_ASSIGN_OR_RETURN(std::string text, evaluator.Render(body));
#ifndef NABLA_ENGINE_TEXT_JINJA_EVALUATOR_H_
#define NABLA_ENGINE_TEXT_JINJA_EVALUATOR_H_

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/text/jinja/render_context.h"
#include "engine/text/jinja/syntax_tree.h"
#include "engine/text/jinja/value.h"

namespace nabla::jinja {

class Evaluator {
 public:
  Evaluator();

  void Define(const std::string& name, Value value);
  absl::StatusOr<std::string> Render(const Body& body);

 private:
  // Variables of one block. Reading looks outwards, setting stays inside.
  struct Scope {
    Scope* outer;
    std::vector<std::pair<std::string, Value>> variables;
  };
  enum class Flow { kNext, kBreak, kContinue };

  Scope* NewScope(Scope* outer);
  static void SetVariable(Scope& scope, const std::string& name, Value value);
  Value GetVariable(const Scope* scope, const std::string& name) const;
  absl::Status Assign(const Expression& target, const Value& value, Scope& scope);
  absl::Status Write(const std::string& text, std::string& out);

  absl::StatusOr<Flow> Execute(const Body& body, Scope& scope, std::string& out);
  absl::StatusOr<Flow> ExecuteStatement(const Statement& statement, Scope& scope, std::string& out);
  absl::StatusOr<Flow> ExecuteFor(const Statement& statement, Scope& scope, std::string& out);
  absl::Status ExecuteCallBlock(const Statement& statement, Scope& scope, std::string& out);
  absl::StatusOr<Value> ExecuteToText(const Body& body, Scope& scope);
  // The value of a macro or of a call block's body.
  Value MakeMacro(const std::string& name, const Statement& statement, Scope& scope);
  absl::StatusOr<Value> CallMacro(const Statement& macro, Scope& outer, const CallArguments& arguments);

  absl::StatusOr<Value> Evaluate(const Expression& expression, Scope& scope);
  absl::StatusOr<Value> EvaluateNode(const Expression& expression, Scope& scope);
  absl::StatusOr<Value> EvaluateContainer(const Expression& expression, Scope& scope);
  absl::StatusOr<Value> EvaluateComparison(const Expression& expression, Scope& scope);
  absl::StatusOr<Value> EvaluateCall(const Expression& expression, Scope& scope);
  // Of the operands from `first` on.
  absl::StatusOr<CallArguments> EvaluateArguments(const Expression& expression, size_t first, Scope& scope);
  absl::StatusOr<Value> ApplyFilterChain(const Expression& filter, const Value& input, Scope& scope);

  RenderContext context_;
  std::deque<Scope> scopes_;  // all that were opened: macros refer to the one they were defined in
  Scope* globals_;
  int depth_ = 0;
};

}  // namespace nabla::jinja

#endif  // NABLA_ENGINE_TEXT_JINJA_EVALUATOR_H_
