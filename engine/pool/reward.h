// A reward model as an engine uses it: with what runs it and what translates to its vocabulary. Immutable.
#ifndef NABLA_ENGINE_POOL_REWARD_H_
#define NABLA_ENGINE_POOL_REWARD_H_

#include <memory>

#include "engine/reward/reward_model.h"
#include "engine/reward/vocabulary_map.h"

namespace nabla {

class LocalRewardModel;
class ModelRunner;

struct Reward {
  std::shared_ptr<ModelRunner> runner;  // null where the model is remote
  std::unique_ptr<RewardModel> model;
  const LocalRewardModel* local = nullptr;  // the same, if it is local
  std::unique_ptr<VocabularyMap> map;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_POOL_REWARD_H_
