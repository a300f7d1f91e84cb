// Questions to put load on a server with.
//
//   NABLA_ASSIGN_OR_RETURN(std::vector<std::string> questions, ReadQuestions(&file));
//
// Pure functions but for the stream they read.
#ifndef NABLA_CLIENT_CLI_QUESTIONS_H_
#define NABLA_CLIENT_CLI_QUESTIONS_H_

#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace nabla {

// One {"question": …} a line; other fields are passed over. INVALID_ARGUMENT names the line.
absl::StatusOr<std::vector<std::string>> ReadQuestions(std::istream* lines);

// A few short word problems, of the kind that the embedded models answer.
std::vector<std::string> BuiltInQuestions();

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_QUESTIONS_H_
