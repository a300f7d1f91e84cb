#include "client/cli/questions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace nabla {
namespace {

using ::testing::ElementsAre;

std::string ReadError(const std::string& text) {
  std::istringstream lines(text);
  return std::string(ReadQuestions(&lines).status().message());
}

TEST(QuestionsTest, AreReadFromJsonLinesWhoseOtherFieldsDoNotMatter) {
  std::istringstream lines("{\"question\": \"a\", \"answer\": 3}\n\n{\"question\": \"b\"}\n");
  const auto questions = ReadQuestions(&lines);
  ASSERT_TRUE(questions.ok()) << questions.status();
  EXPECT_THAT(*questions, ElementsAre("a", "b"));
}

TEST(QuestionsTest, ErrorsNameTheLine) {
  EXPECT_EQ(ReadError("{\"question\": \"a\"}\n[]\n"), "line 2: expected an object with a text \"question\"");
  EXPECT_EQ(ReadError("{\"question\": \"\"}\n"), "line 1: expected an object with a text \"question\"");
  EXPECT_EQ(ReadError("{\"question\": 3}\n"), "line 1: expected an object with a text \"question\"");
  EXPECT_EQ(ReadError("{\n"), "line 1: expected an object with a text \"question\"");
  EXPECT_EQ(ReadError("\n"), "no questions in it");
}

TEST(QuestionsTest, SomeAreBuiltIn) { EXPECT_GE(BuiltInQuestions().size(), 3u); }

}  // namespace
}  // namespace nabla
