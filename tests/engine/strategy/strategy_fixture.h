// A tiny pair of models and what strategies run on, for their tests.
#ifndef NABLA_TESTS_ENGINE_STRATEGY_STRATEGY_FIXTURE_H_
#define NABLA_TESTS_ENGINE_STRATEGY_STRATEGY_FIXTURE_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include "engine/model/model.h"
#include "engine/reward/local_reward_model.h"
#include "engine/strategy/strategy.h"
#include "tests/engine/model_fixture.h"
#include "tests/engine/test_models.h"

namespace nabla {

class CountingSink : public EventSink {
 public:
  void OnEvent(Event event) override {
    if (const auto* committed = std::get_if<CommittedEvent>(&event))
      ids.insert(ids.end(), committed->token_ids.begin(), committed->token_ids.end());
    if (const auto* revision = std::get_if<RevisionEvent>(&event)) revisions.push_back(*revision);
    if (const auto* candidate = std::get_if<CandidateEvent>(&event)) candidates.push_back(*candidate);
    if (std::holds_alternative<ProgressEvent>(event)) ++refinements;
    if (on_event) on_event(event);
  }
  std::function<void(const Event&)> on_event;
  std::vector<int32_t> ids;
  std::vector<RevisionEvent> revisions;
  std::vector<CandidateEvent> candidates;
  int refinements = 0;
};

class StrategyTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = Model::Load(LanguageModelFolder(), "float32", TestDevice(), 0).value();
    runner_ = NewRunner(model_);
    reward_ = LocalRewardModel::Create(NewRunner(Model::Load(ClassifierFolder(), "float32", TestDevice(), 0).value()),
                                       RewardKind::kClassifier, VerdictOptions())
                  .value();
    map_ = std::make_unique<VocabularyMap>(model_->tokenizer(), 403, *reward_);
  }
  static void TearDownTestSuite() { map_.reset(), model_.reset(), runner_.reset(), reward_.reset(); }

  // A session and a scorer of one request; usage_ and sink_ start afresh.
  struct Parts {
    std::unique_ptr<ResponseScorer> scorer;
    std::unique_ptr<Session> session;
  };
  Parts NewRequest(uint64_t seed = 0) {
    constexpr int kTokens = 24;
    usage_ = Usage();
    sink_.ids.clear(), sink_.revisions.clear(), sink_.candidates.clear(), sink_.refinements = 0;
    Parts parts;
    parts.scorer = std::make_unique<ResponseScorer>(
        reward_.get(), map_.get(), reward_->Open({{"user", "How many?"}}, kTokens).value(), &usage_.reward_model);
    parts.session =
        Session::Create(runner_.get(),
                        {.prompt_ids = {1, 87, 85, 285, 2, 201, 1}, .max_new_tokens = kTokens, .seed = seed}, &stop_,
                        &sink_, &usage_)
            .value();
    return parts;
  }

  inline static std::shared_ptr<const Model> model_;
  inline static std::shared_ptr<ModelRunner> runner_;
  inline static std::unique_ptr<LocalRewardModel> reward_;
  inline static std::unique_ptr<VocabularyMap> map_;
  StopToken stop_;
  CountingSink sink_;
  Usage usage_;
};

}  // namespace nabla

#endif  // NABLA_TESTS_ENGINE_STRATEGY_STRATEGY_FIXTURE_H_
