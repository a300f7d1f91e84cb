#include "client/cli/questions.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace nabla {

absl::StatusOr<std::vector<std::string>> ReadQuestions(std::istream* lines) {
  std::vector<std::string> questions;
  std::string line;
  for (size_t number = 1; std::getline(*lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const nlohmann::json object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto question = object.is_object() ? object.find("question") : object.end();
    if (!object.is_object() || question == object.end() || !question->is_string() ||
        question->get_ref<const std::string&>().empty()) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": expected an object with a text \"question\""));
    }
    questions.push_back(question->get<std::string>());
  }
  if (questions.empty()) return absl::InvalidArgumentError("no questions in it");
  return questions;
}

std::vector<std::string> BuiltInQuestions() {
  return {
      "Tom has 76 stamps. He gives 5 friends 15 stamps each. He buys 4 packs of 8 stamps. How many stamps does Tom "
      "have?",
      "Eva has 89 beads. She finds 52 more. She gives away 5. She finds 52 more. She keeps one part of 2 equal parts. "
      "How many beads are there now?",
      "Ida has 57 eggs. She keeps one part of 3 equal parts. Then she makes it 4 times as many. She buys 5 bags of 10 "
      "eggs. How many eggs are there now?",
      "Max has 46 beads. He keeps one part of 2 equal parts. He buys 6 bags of 19 beads. How many beads are there now?",
      "Tom has 39 shells. Ben has 3 times as many. Ben buys 11 more. How many shells do they have together?",
  };
}

}  // namespace nabla
