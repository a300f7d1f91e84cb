#include "client/cli/progress_bar.h"

#include <gtest/gtest.h>

namespace nabla {
namespace {

TEST(ProgressBarTest, ShowsTheShareAndWhatIsLeftAtTheRateSoFar) {
  EXPECT_EQ(ProgressBar(0, 300, absl::Seconds(1)), "[....................] 0/300");
  EXPECT_EQ(ProgressBar(45, 300, absl::Seconds(9)), "[###.................] 45/300, 51s left");
  EXPECT_EQ(ProgressBar(299, 300, absl::Minutes(10)), "[###################.] 299/300, 3s left");
  EXPECT_EQ(ProgressBar(300, 300, absl::Minutes(10)), "[####################] 300/300");
  EXPECT_EQ(ProgressBar(1, 1000, absl::Seconds(4)), "[....................] 1/1000, 1h6m36s left");
}

}  // namespace
}  // namespace nabla
