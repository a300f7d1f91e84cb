#include "bench/forked_function.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <optional>

#include "absl/status/status.h"

namespace nabla {
namespace {

void WriteLine(const std::string& line, FILE* file) {
  std::fwrite(line.data(), 1, line.size(), file);
  std::fputc('\n', file);
  std::fflush(file);
}

std::optional<std::string> ReadLine(FILE* file) {
  char* buffer = nullptr;
  size_t capacity = 0;
  const ssize_t length = getline(&buffer, &capacity, file);
  std::optional<std::string> line;
  if (length > 0) line.emplace(buffer, static_cast<size_t>(length) - 1);  // without its end
  std::free(buffer);
  return line;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ForkedFunction>> ForkedFunction::Start(
    absl::FunctionRef<std::string(const std::string& line)> function) {
  std::signal(SIGPIPE, SIG_IGN);  // a dead process is an error of Call
  int calls[2], answers[2];       // each: read end, write end
  if (pipe(calls) != 0 || pipe(answers) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");
  const pid_t process = fork();
  if (process < 0) return absl::ErrnoToStatus(errno, "cannot fork");
  if (process == 0) {
    close(calls[1]);
    close(answers[0]);
    FILE* const from = fdopen(calls[0], "r");
    FILE* const to = fdopen(answers[1], "w");
    while (const std::optional<std::string> line = ReadLine(from)) WriteLine(function(*line), to);
    _exit(0);
  }
  close(calls[0]);
  close(answers[1]);
  return std::unique_ptr<ForkedFunction>(new ForkedFunction(process, fdopen(calls[1], "w"), fdopen(answers[0], "r")));
}

ForkedFunction::~ForkedFunction() {
  std::fclose(to_);
  std::fclose(from_);
  waitpid(process_, nullptr, 0);
}

absl::StatusOr<std::string> ForkedFunction::Call(const std::string& line) {
  WriteLine(line, to_);
  std::optional<std::string> answer = ReadLine(from_);
  if (!answer.has_value()) return absl::AbortedError("the process of a function has died");
  return *std::move(answer);
}

}  // namespace nabla
