#include "engine/text/utf8.h"

#include <string>

#include "gtest/gtest.h"

namespace nabla {
namespace {

std::string Lossy(absl::string_view bytes) {
  std::string out;
  AppendUtf8Lossy(bytes, /*final=*/true, out);
  return out;
}

TEST(Utf8Test, AcceptsWellFormedText) {
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"));
}

TEST(Utf8Test, RefusesOverlongSurrogateAndTooLarge) {
  EXPECT_FALSE(IsValidUtf8("\xC0\x80"));
  EXPECT_FALSE(IsValidUtf8("\xE0\x80\x80"));
  EXPECT_FALSE(IsValidUtf8("\xED\xA0\x80"));
  EXPECT_FALSE(IsValidUtf8("\xF4\x90\x80\x80"));
  EXPECT_FALSE(IsValidUtf8("\x80"));
  EXPECT_FALSE(IsValidUtf8("a\xE2\x82"));
}

TEST(Utf8Test, ReplacesMaximalSubparts) {
  // The example of the Unicode Standard, table 3-11, and its relatives.
  EXPECT_EQ(Lossy("\xF0\x80\x80\x41"), "\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(Lossy("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(Lossy("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(Lossy("x\xF0\x9F\x98"), "x\uFFFD");
}

TEST(Utf8Test, HoldsBackWhatMayBeCompleted) {
  std::string out;
  EXPECT_EQ(AppendUtf8Lossy("ab\xF0\x9F", /*final=*/false, out), 2u);
  EXPECT_EQ(out, "ab");
  EXPECT_EQ(AppendUtf8Lossy("\xF0\x80", /*final=*/false, out), 2u);
  EXPECT_EQ(out, "ab\uFFFD\uFFFD");
}

TEST(Utf8Test, EncodesEveryScalarValueAsItDecodes) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, text);
    const Utf8Character character = DecodeUtf8Character(text);
    ASSERT_TRUE(character.valid && character.code_point == c && character.length == text.size()) << uint32_t{c};
  }
}

}  // namespace
}  // namespace nabla
