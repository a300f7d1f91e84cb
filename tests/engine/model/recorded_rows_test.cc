#include "engine/model/recorded_rows.h"

#include <gtest/gtest.h>

#include <numeric>

#include "engine/model/model.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

constexpr int64_t kPlenty = int64_t{1} << 30;
constexpr int64_t kFirst = 5;  // the position of row 0

class RecordedRowsTest : public testing::Test {
 protected:
  RecordedRowsTest() : model_(Model::Load(LanguageModelFolder(), "float32", "cpu", 0).value()), ids_(100) {
    std::iota(ids_.begin(), ids_.end(), 1);
  }

  RecordedRows NewRows(std::shared_ptr<MemoryBudget> budget) const {
    return RecordedRows(model_->body().weights(), kFirst, 90, std::move(budget));
  }
  absl::Span<const int32_t> Ids(size_t begin, size_t end) const {
    return absl::MakeConstSpan(ids_).subspan(begin, end - begin);
  }

  const std::shared_ptr<const Model> model_;
  std::vector<int32_t> ids_;
};

TEST_F(RecordedRowsTest, HoldsWhatWasRunLastAtEveryPosition) {
  RecordedRows rows = NewRows(nullptr);
  EXPECT_EQ(rows.Begin(0, Ids(0, 3)), -1) << "ahead of the first position";
  EXPECT_EQ(rows.Begin(kFirst, Ids(0, 4)), 0);
  EXPECT_EQ(rows.Begin(kFirst + 4, Ids(4, 6)), 4);
  EXPECT_TRUE(rows.Holds(Ids(0, 6)));
  EXPECT_EQ(rows.Begin(kFirst + 7, Ids(7, 8)), -1) << "the row before is not there";
  EXPECT_EQ(rows.Begin(kFirst + 2, Ids(50, 51)), 2);
  EXPECT_TRUE(rows.Holds(Ids(0, 2)));
  EXPECT_FALSE(rows.Holds(Ids(0, 3)));
}

TEST_F(RecordedRowsTest, ASequenceWithoutRoomGivesBackAllItHas) {
  const auto plenty = std::make_shared<MemoryBudget>(kPlenty);
  RecordedRows all = NewRows(plenty);
  ASSERT_EQ(all.Begin(kFirst, Ids(0, 1)), 0);
  const int64_t some = kPlenty - plenty->left();  // what the first few rows take
  ASSERT_EQ(all.Begin(kFirst + 1, Ids(1, 90)), 1);

  const auto scarce = std::make_shared<MemoryBudget>(2 * some);
  RecordedRows rows = NewRows(scarce);
  EXPECT_EQ(rows.Begin(kFirst, Ids(0, 40)), 0);
  EXPECT_LT(scarce->left(), 2 * some);
  EXPECT_EQ(rows.Begin(kFirst + 40, Ids(40, 90)), -1);
  EXPECT_EQ(scarce->left(), 2 * some);
  EXPECT_FALSE(rows.Holds(Ids(0, 1)));
  EXPECT_EQ(rows.Begin(kFirst, Ids(0, 1)), -1) << "and takes nothing again";
  EXPECT_EQ(scarce->left(), 2 * some);
}

}  // namespace
}  // namespace nabla
