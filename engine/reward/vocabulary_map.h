// From the language model's token ids to the reward model's, by token string; a token that the reward model lacks
// becomes its padding (algorithm.md, "Vocabularies that differ"). Immutable, thread-safe.
//
//   VocabularyMap map(lm_tokenizer, lm_vocabulary_size, reward_model);
//   std::vector<int32_t> reward_ids = map.Ids(response);
//   std::vector<float> rows = map.Rows(reward_rows, 1);   // [1, V of the reward model] → [1, V of the language model]
#ifndef NABLA_ENGINE_REWARD_VOCABULARY_MAP_H_
#define NABLA_ENGINE_REWARD_VOCABULARY_MAP_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/reward/reward_model.h"
#include "engine/text/tokenizer.h"

namespace nabla {

class VocabularyMap {
 public:
  VocabularyMap(const Tokenizer& language_model, int vocabulary_size, const RewardModel& reward_model);

  std::vector<int32_t> Ids(absl::Span<const int32_t> ids) const;
  // Rows over the reward model's vocabulary → rows over the language model's: [rows, V_RM] → [rows, V_LM].
  std::vector<float> Rows(std::vector<float> rows, int count) const;

 private:
  std::vector<int32_t> to_reward_;
  int reward_vocabulary_size_;
  bool identity_ = true;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REWARD_VOCABULARY_MAP_H_
