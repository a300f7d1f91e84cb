// The `nabla` command: gives RunCommand the process's streams, its terminal and Ctrl-C.
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/cli/command.h"

namespace {

int signal_pipe[2];

void OnInterrupt(int /*signal*/) {
  const char byte = 0;
  static_cast<void>(!write(signal_pipe[1], &byte, 1));
}

// Turns the next Ctrl-C into a cancellation; the one behind it ends the process.
void ArmInterrupt() {
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
}

void CancelOnInterrupt(nabla::CancelHandle* cancel) {
  if (pipe(signal_pipe) != 0) return;
  ArmInterrupt();
  std::thread([cancel] {
    char byte = 0;
    while (read(signal_pipe[0], &byte, 1) == 1 || errno == EINTR) cancel->Cancel();
  }).detach();
}

bool IsSet(const char* variable) {
  const char* value = getenv(variable);
  return value != nullptr && *value != '\0';
}

nabla::TerminalOptions StdoutTerminal() {
  nabla::TerminalOptions options;
  const char* term = getenv("TERM");
  options.redraw = isatty(STDOUT_FILENO) == 1 && term != nullptr && absl::string_view(term) != "dumb";
  options.colour = options.redraw && !IsSet("NO_COLOR");
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
    options.width = size.ws_col;
    options.height = size.ws_row;
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);  // our own errors say what is wrong
  static nabla::CancelHandle cancel;                  // outlives the waiting thread
  CancelOnInterrupt(&cancel);
  nabla::Console console{.in = &std::cin,
                         .out = &std::cout,
                         .error = &std::cerr,
                         .in_is_terminal = isatty(STDIN_FILENO) == 1,
                         .error_is_terminal = isatty(STDERR_FILENO) == 1,
                         .terminal = StdoutTerminal(),
                         .cancel = &cancel,
                         .rearm = ArmInterrupt};
  return nabla::RunCommand(std::vector<std::string>(argv + 1, argv + argc), &console);
}
