#include "engine/reward/vocabulary_map.h"

#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace nabla {

VocabularyMap::VocabularyMap(const Tokenizer& language_model, int vocabulary_size, const RewardModel& reward_model)
    : to_reward_(vocabulary_size), reward_vocabulary_size_(reward_model.vocabulary_size()) {
  const std::vector<std::string> token_strings = reward_model.TokenStrings();
  absl::flat_hash_map<absl::string_view, int32_t> reward_ids;
  for (size_t id = 0; id < token_strings.size(); ++id) {
    if (!token_strings[id].empty()) reward_ids[token_strings[id]] = static_cast<int32_t>(id);
  }
  identity_ = vocabulary_size == reward_vocabulary_size_;
  for (int32_t id = 0; id < vocabulary_size; ++id) {
    const auto found = reward_ids.find(language_model.TokenString(id));
    to_reward_[id] = found != reward_ids.end() ? found->second : reward_model.pad_token_id();
    identity_ = identity_ && to_reward_[id] == id;
  }
}

std::vector<int32_t> VocabularyMap::Ids(absl::Span<const int32_t> ids) const {
  std::vector<int32_t> mapped;
  mapped.reserve(ids.size());
  for (const int32_t id : ids) mapped.push_back(to_reward_[id]);
  return mapped;
}

std::vector<float> VocabularyMap::Rows(std::vector<float> rows, int count) const {
  if (identity_) return rows;
  std::vector<float> mapped;
  mapped.reserve(static_cast<size_t>(count) * to_reward_.size());
  for (int row = 0; row < count; ++row) {
    const float* values = rows.data() + static_cast<size_t>(row) * reward_vocabulary_size_;
    for (const int32_t id : to_reward_) mapped.push_back(values[id]);
  }
  return mapped;
}

}  // namespace nabla
