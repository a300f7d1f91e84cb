#include "engine/reward/vocabulary_map.h"

#include <gtest/gtest.h>

#include "tests/engine/test_models.h"

namespace nabla {
namespace {

// A reward model that is nothing but a vocabulary.
class Vocabulary : public RewardModel {
 public:
  explicit Vocabulary(std::shared_ptr<const Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {}
  absl::StatusOr<std::unique_ptr<RewardContext>> Open(absl::Span<const ChatMessage>, int, const StopToken*,
                                                      absl::string_view) const override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<std::vector<float>> ProjectToVocabulary(absl::Span<const float>, int) const override {
    return absl::UnimplementedError("");
  }
  std::vector<std::string> TokenStrings() const override {
    std::vector<std::string> strings(tokenizer_->vocabulary_size());
    for (size_t id = 0; id < strings.size(); ++id) strings[id] = tokenizer_->TokenString(static_cast<int32_t>(id));
    return strings;
  }
  int vocabulary_size() const override { return tokenizer_->vocabulary_size(); }
  int32_t pad_token_id() const override { return 0; }
  RewardKind kind() const override { return RewardKind::kClassifier; }
  const std::string& name() const override { return name_; }
  ModelInfo info() const override { return {}; }

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::string name_ = "vocabulary";
};

std::shared_ptr<const Tokenizer> Load(const std::string& name) {
  return Tokenizer::Load("tests/golden/tokenizer/" + name + "/tokenizer.json").value();
}

TEST(VocabularyMapTest, TheSameTokenizerMapsToItself) {
  const auto digits = Load("digits");
  const Vocabulary reward(digits);
  const VocabularyMap map(*digits, digits->vocabulary_size(), reward);
  const std::vector<int32_t> ids = {0, 5, 402};
  EXPECT_EQ(map.Ids(ids), ids);
  const std::vector<float> row(403, 1.5f);
  EXPECT_EQ(map.Rows(row, 1), row);
}

TEST(VocabularyMapTest, TokensAreFoundByTheirStringAndMissingOnesBecomePadding) {
  const auto digits = Load("digits"), qwen = Load("qwen2");
  const Vocabulary reward(qwen);
  const VocabularyMap map(*digits, digits->vocabulary_size(), reward);
  std::vector<int32_t> all(digits->vocabulary_size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
  const std::vector<int32_t> mapped = map.Ids(all);
  int missing = 0;
  for (const int32_t id : all) {
    const auto found = qwen->TokenToId(digits->TokenString(id));
    EXPECT_EQ(mapped[id], found.value_or(0));
    missing += !found;
  }
  EXPECT_GT(missing, 0);
  EXPECT_LT(missing, 403);

  std::vector<float> rows(2 * qwen->vocabulary_size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i);
  const std::vector<float> gathered = map.Rows(rows, 2);
  ASSERT_EQ(gathered.size(), 2u * 403);
  EXPECT_EQ(gathered[10], static_cast<float>(mapped[10]));
  EXPECT_EQ(gathered[403 + 10], static_cast<float>(qwen->vocabulary_size() + mapped[10]));
}

}  // namespace
}  // namespace nabla
