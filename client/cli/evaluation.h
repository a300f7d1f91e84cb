// Runs strategies over questions with known answers and compares them.
//
//   NABLA_ASSIGN_OR_RETURN(std::vector<Problem> problems, ReadProblems(file));
//   StrategyScore score = Evaluate("nabla", problems, /*concurrency=*/2, ask, [](size_t done) { … });
//   std::cout << FormatTable({baseline, score});
//
// Evaluate blocks until every question is answered or has failed; it calls `ask` from `concurrency` threads,
// `on_progress` from one at a time. A question that fails counts as wrong and is reported as failed, never left out.
#ifndef NABLA_CLIENT_CLI_EVALUATION_H_
#define NABLA_CLIENT_CLI_EVALUATION_H_

#include <cstddef>
#include <functional>
#include <istream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/text/final_answer.h"
#include "nabla/v1/reasoner.pb.h"

namespace nabla {

struct Problem {
  std::string question;
  FinalAnswer answer;
};

// One {"question": …, "answer": …} a line, where "question" may be called "problem" (MATH). The answer is a number, or
// a text: the answer itself, or a solution that marks it by \boxed{…}, "####" (GSM8K) or "The answer is"; a "solution"
// that does may stand for a missing "answer". INVALID_ARGUMENT names the line.
absl::StatusOr<std::vector<Problem>> ReadProblems(std::istream* lines);

struct ProblemOutcome {
  absl::Status status;
  v1::Finished finished;  // where status is OK
  bool correct = false;
};

struct StrategyScore {
  std::string strategy;
  std::vector<ProblemOutcome> outcomes;  // in the order of the problems
};

using AskFunction = std::function<absl::StatusOr<v1::Finished>(size_t problem)>;

StrategyScore Evaluate(const std::string& strategy, const std::vector<Problem>& problems, size_t concurrency,
                       const AskFunction& ask, const std::function<void(size_t done)>& on_progress);

// A Markdown table, one row a strategy. Accuracies have 95 % intervals (bootstrap.h), and so have the differences from
// the first strategy's, problem by problem. Tokens are those really run forwards / backwards through the language
// model, its draft included, and the reward model. Means are over the answered questions.
std::string FormatTable(const std::vector<StrategyScore>& scores);

// The same with every single outcome, as JSON.
std::string FormatJson(const std::vector<Problem>& problems, const std::vector<StrategyScore>& scores);

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_EVALUATION_H_
