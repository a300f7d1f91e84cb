#include "client/cli/flag_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nabla {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FlagSetTest : public testing::Test {
 protected:
  FlagSetTest() : flags_("nabla test", "tests.", "[thing]") {
    flags_.Add("name", &name_, "A name.");
    flags_.Add("stop", &stop_, "Stops.");
    flags_.Add("json", &json_, "JSON.");
    flags_.Add("keep", &keep_, "Keep.");
    flags_.Add("count", &count_, "A count.");
    flags_.Add("rate", &rate_, "A rate.");
    flags_.Add("timeout", &timeout_, "A timeout.");
  }
  std::string Error(const std::vector<std::string>& arguments) {
    return std::string(flags_.Parse(arguments).status().message());
  }

  std::string name_;
  std::vector<std::string> stop_;
  bool json_ = false;
  std::optional<bool> keep_;
  std::optional<uint32_t> count_;
  std::optional<double> rate_;
  absl::Duration timeout_;
  FlagSet flags_;
};

TEST_F(FlagSetTest, ReadsEveryKindOfFlag) {
  const auto positional = flags_.Parse({"--name=a=b", "one", "--stop", "x", "--stop=y", "--json", "--nokeep",
                                        "--count=3", "-rate=0.5", "--timeout=1m", "-", "--", "--two"});
  ASSERT_TRUE(positional.ok()) << positional.status();
  EXPECT_THAT(*positional, ElementsAre("one", "-", "--two"));
  EXPECT_EQ(name_, "a=b");
  EXPECT_THAT(stop_, ElementsAre("x", "y"));
  EXPECT_TRUE(json_);
  EXPECT_EQ(keep_, false);
  EXPECT_EQ(count_, 3u);
  EXPECT_EQ(rate_, 0.5);
  EXPECT_EQ(timeout_, absl::Minutes(1));
  EXPECT_TRUE(flags_.WasGiven("name"));
}

TEST_F(FlagSetTest, LeftOutFlagsStayEmpty) {
  ASSERT_TRUE(flags_.Parse({"--json=false"}).ok());
  EXPECT_FALSE(json_);
  EXPECT_FALSE(keep_.has_value());
  EXPECT_FALSE(count_.has_value());
  EXPECT_FALSE(flags_.WasGiven("count"));
}

TEST_F(FlagSetTest, ErrorsSayWhatIsWrong) {
  EXPECT_EQ(Error({"--nmae=x"}), "unknown flag --nmae; see nabla test --help");
  EXPECT_EQ(Error({"--noname"}), "unknown flag --noname; see nabla test --help");
  EXPECT_EQ(Error({"--count"}), "--count needs a value: --count=COUNT");
  EXPECT_EQ(Error({"--count=-1"}), "--count: expected a whole number, 0 or more, got \"-1\"");
  EXPECT_EQ(Error({"--count=1.5"}), "--count: expected a whole number, 0 or more, got \"1.5\"");
  EXPECT_EQ(Error({"--rate=fast"}), "--rate: expected a number, got \"fast\"");
  EXPECT_EQ(Error({"--json=maybe"}), "--json: expected true or false, got \"maybe\"");
  EXPECT_EQ(Error({"--timeout=5"}), "--timeout: expected a duration such as 30s or 2m, got \"5\"");
}

TEST_F(FlagSetTest, HelpListsEveryFlag) {
  ASSERT_TRUE(flags_.Parse({"--help"}).ok());
  EXPECT_TRUE(flags_.help_requested());
  for (const char* flag :
       {"--help", "--name=TEXT", "--stop=TEXT", "--json", "--keep", "--count=COUNT", "--rate=NUMBER"}) {
    EXPECT_THAT(flags_.Help(), HasSubstr(flag));
  }
}

}  // namespace
}  // namespace nabla
