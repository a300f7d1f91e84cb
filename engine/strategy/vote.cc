#include "engine/strategy/vote.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "engine/text/final_answer.h"

namespace nabla {

std::vector<size_t> Elect(const std::vector<std::string>& responses, const std::vector<double>& weights) {
  struct Party {
    FinalAnswer answer;
    double weight = 0;
    std::vector<size_t> members;
  };
  std::vector<Party> parties;
  for (size_t i = 0; i < responses.size(); ++i) {
    const std::optional<FinalAnswer> answer = ExtractFinalAnswer(responses[i]);
    if (!answer.has_value()) continue;
    auto party = std::find_if(parties.begin(), parties.end(),
                              [&](const Party& other) { return SameAnswer(other.answer, *answer); });
    if (party == parties.end()) party = parties.insert(parties.end(), Party{.answer = *answer});
    party->weight += weights[i];
    party->members.push_back(i);
  }
  if (parties.empty()) {
    std::vector<size_t> all(responses.size());
    std::iota(all.begin(), all.end(), size_t{0});
    return all;
  }
  return std::max_element(parties.begin(), parties.end(),  // the first of the largest
                          [](const Party& a, const Party& b) { return a.weight < b.weight; })
      ->members;
}

}  // namespace nabla
