#include "engine/text/streaming_detokenizer.h"

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/text/utf8.h"
#include "gtest/gtest.h"
#include "tests/engine/text/small_tokenizer.h"

namespace nabla {
namespace {

std::shared_ptr<const Tokenizer> SmallTokenizer() {
  return *Tokenizer::FromJson(SmallTokenizerJson().dump(), "t.json");
}

TEST(StreamingDetokenizerTest, HoldsBackIncompleteCharacters) {
  StreamingDetokenizer detokenizer(SmallTokenizer(), /*skip_special_tokens=*/true);
  EXPECT_EQ(detokenizer.Push('a'), "a");
  EXPECT_EQ(detokenizer.Push(0xE2), "");
  EXPECT_EQ(detokenizer.Push(0x82), "");
  EXPECT_EQ(detokenizer.Push(0xAC), "\u20AC");
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(StreamingDetokenizerTest, FlushReplacesWhatStaysIncomplete) {
  StreamingDetokenizer detokenizer(SmallTokenizer(), /*skip_special_tokens=*/true);
  EXPECT_EQ(detokenizer.Push(0xF0), "");
  EXPECT_EQ(detokenizer.Flush(), "\uFFFD");
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(StreamingDetokenizerTest, SkipsSpecialTokensInsideACharacter) {
  StreamingDetokenizer skipping(SmallTokenizer(), /*skip_special_tokens=*/true);
  EXPECT_EQ(skipping.Push(0xC3), "");
  EXPECT_EQ(skipping.Push(260), "");
  EXPECT_EQ(skipping.Push(0xA9), "\u00E9");
  StreamingDetokenizer keeping(SmallTokenizer(), /*skip_special_tokens=*/false);
  EXPECT_EQ(keeping.Push(0xC3), "");
  EXPECT_EQ(keeping.Push(260), "\uFFFD<s>");
  EXPECT_EQ(keeping.Push(0xA9), "\uFFFD");
}

TEST(StreamingDetokenizerTest, EqualsDecodeForRandomIds) {
  const auto tokenizer = SmallTokenizer();
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> ids(1 + random() % 30);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 3 == 0 ? random() % 270 : 0x80 + random() % 0x80);
    const bool skip = round % 2 == 0;
    StreamingDetokenizer detokenizer(tokenizer, skip);
    std::string text;
    for (const int32_t id : ids) {
      const std::string piece = detokenizer.Push(id);
      ASSERT_TRUE(IsValidUtf8(piece));
      text += piece;
    }
    ASSERT_EQ(text + detokenizer.Flush(), tokenizer->Decode(ids, skip));
  }
}

}  // namespace
}  // namespace nabla
