// A function that runs in a process of its own: a line of text in, a line of text out.
//
//   NABLA_ASSIGN_OR_RETURN(auto twice, ForkedFunction::Start([](const std::string& line) { return line + line; }));
//   NABLA_ASSIGN_OR_RETURN(std::string answer, twice->Call("ab"));   // "abab"
//
// The process is a fork: start it before the first thread, and neither line may hold a newline. What the function keeps
// between calls stays in its process, which ends with this object. Not thread-safe.
#ifndef NABLA_BENCH_FORKED_FUNCTION_H_
#define NABLA_BENCH_FORKED_FUNCTION_H_

#include <sys/types.h>

#include <cstdio>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace nabla {

class ForkedFunction {
 public:
  // Errors are those of the system.
  static absl::StatusOr<std::unique_ptr<ForkedFunction>> Start(
      absl::FunctionRef<std::string(const std::string& line)> function);
  ~ForkedFunction();
  ForkedFunction(const ForkedFunction&) = delete;
  ForkedFunction& operator=(const ForkedFunction&) = delete;

  absl::StatusOr<std::string> Call(const std::string& line);  // ABORTED: the process has died

 private:
  ForkedFunction(pid_t process, FILE* to, FILE* from) : process_(process), to_(to), from_(from) {}

  const pid_t process_;
  FILE* const to_;
  FILE* const from_;
};

}  // namespace nabla

#endif  // NABLA_BENCH_FORKED_FUNCTION_H_
