#include "engine/text/tokenizer.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/text/small_tokenizer.h"

namespace nabla {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::shared_ptr<const Tokenizer> Make(const nlohmann::json& json) {
  auto tokenizer = Tokenizer::FromJson(json.dump(), "t.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *tokenizer : nullptr;
}

std::string ErrorOf(const nlohmann::json& json) {
  return std::string(Tokenizer::FromJson(json.dump(), "t.json").status().message());
}

// The token strings of a text, with "|" between them.
std::string Pieces(const Tokenizer& tokenizer, const std::string& text) {
  std::string pieces;
  for (const int32_t id : tokenizer.Encode(text)) {
    if (!pieces.empty()) pieces.push_back('|');
    pieces.append(tokenizer.TokenString(id));
  }
  return pieces;
}

TEST(TokenizerTest, MergesLowestRankFirst) {
  const auto tokenizer = Make(SmallTokenizerJson());
  EXPECT_EQ(Pieces(*tokenizer, "hello"), "hell|o");
  EXPECT_EQ(Pieces(*tokenizer, " lll"), "Ġ|ll|l");
  EXPECT_THAT(tokenizer->Encode(""), IsEmpty());
}

TEST(TokenizerTest, ReadsMergesAsStrings) {
  nlohmann::json json = SmallTokenizerJson();
  json["model"]["merges"] = {"l l", "h e", "he ll"};
  EXPECT_EQ(Pieces(*Make(json), "hello"), "hell|o");
}

TEST(TokenizerTest, IgnoreMergesTakesWholePieces) {
  nlohmann::json json = SmallTokenizerJson();
  json["model"]["vocab"]["Ġhello"] = 259;
  EXPECT_EQ(Pieces(*Make(json), " hello"), "Ġ|hell|o");
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(Pieces(*Make(json), " hello"), "Ġhello");
}

TEST(TokenizerTest, DropsBytesTheVocabularyLacks) {
  nlohmann::json json = SmallTokenizerJson();
  json["model"]["vocab"].erase("z");
  EXPECT_EQ(Pieces(*Make(json), "azb"), "a|b");
  json["model"]["unk_token"] = "h";
  EXPECT_EQ(Pieces(*Make(json), "azzb"), "a|h|h|b");
  json["model"]["fuse_unk"] = true;
  EXPECT_EQ(Pieces(*Make(json), "azzb"), "a|h|b");
}

TEST(TokenizerTest, SplitBehaviors) {
  nlohmann::json json = SmallTokenizerJson();
  // "ll" merges only where no split falls between; "-" is the match.
  const std::vector<std::pair<std::string, std::string>> expected = {{"Removed", "l|l"},
                                                                     {"Isolated", "l|-|-|l"},
                                                                     {"MergedWithPrevious", "l-|-|l"},
                                                                     {"MergedWithNext", "l|-|-l"},
                                                                     {"Contiguous", "l|--|l"}};
  json["model"]["vocab"].update({{"l-", 300}, {"-l", 301}, {"--", 302}});
  json["model"]["merges"] = {"l -", "- l", "- -"};
  for (const auto& [behavior, pieces] : expected) {
    json["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
    EXPECT_EQ(Pieces(*Make(json), "l--l"), pieces) << behavior;
  }
}

TEST(TokenizerTest, DigitsStandAlone) {
  nlohmann::json json = SmallTokenizerJson();
  json["model"]["vocab"]["12"] = 300;
  json["model"]["merges"] = {"1 2"};
  EXPECT_EQ(Pieces(*Make(json), "12"), "12");
  json["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers",
                            {{{"type", "Digits"}, {"individual_digits", true}},
                             {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}};
  EXPECT_EQ(Pieces(*Make(json), "12"), "1|2");
}

TEST(TokenizerTest, AddsPrefixSpaceToEverySegment) {
  nlohmann::json json = SmallTokenizerJson();
  json["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_EQ(Pieces(*Make(json), "a<s>b c"), "Ġ|a|<s>|Ġ|b|Ġ|c");
}

TEST(TokenizerTest, NormalizesToNfc) {
  nlohmann::json json = SmallTokenizerJson();
  json["normalizer"] = {{"type", "NFC"}};
  EXPECT_THAT(Make(json)->Encode("e\u0301"), ElementsAre(0xC3, 0xA9));
}

TEST(TokenizerTest, NormalizersApplyInOrder) {
  nlohmann::json json = SmallTokenizerJson();
  json["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "Lowercase"}},
                          {{"type", "Prepend"}, {"prepend", "_"}},
                          {{"type", "Replace"}, {"pattern", {{"Regex", "[xy]+"}}}, {"content", "z"}}}}};
  EXPECT_EQ(Pieces(*Make(json), "AXYb"), "_|a|z|b");
}

TEST(TokenizerTest, AddedTokenOptions) {
  nlohmann::json json = SmallTokenizerJson();
  const auto add = [&json](int id, const std::string& content, const std::string& option) {
    json["added_tokens"].push_back({{"id", id}, {"content", content}, {"normalized", false}, {option, true}});
  };
  add(400, "<l>", "lstrip");
  add(401, "<r>", "rstrip");
  add(402, "word", "single_word");
  add(403, "<s>>", "special");
  const auto tokenizer = Make(json);
  EXPECT_EQ(Pieces(*tokenizer, "a  <l> b"), "a|<l>|Ġ|b");
  EXPECT_EQ(Pieces(*tokenizer, "a <r>  b"), "a|Ġ|<r>|b");
  EXPECT_EQ(Pieces(*tokenizer, "word-word"), "word|-|word");
  EXPECT_EQ(Pieces(*tokenizer, "words"), "w|o|r|d|s");
  EXPECT_EQ(Pieces(*tokenizer, "<s>><s>"), "<s>>|<s>");  // the longest wins
}

TEST(TokenizerTest, FindsNormalizedAddedTokensInNormalizedText) {
  nlohmann::json json = SmallTokenizerJson();
  json["normalizer"] = {{"type", "Lowercase"}};
  json["added_tokens"].push_back({{"id", 400}, {"content", "ABC"}, {"special", false}, {"normalized", true}});
  EXPECT_EQ(Pieces(*Make(json), "xAbC"), "x|ABC");
}

TEST(TokenizerTest, DecodesAndSkipsSpecialTokens) {
  const auto tokenizer = Make(SmallTokenizerJson());
  const std::vector<int32_t> ids = tokenizer->Encode("hello<s> h\xC3\xA9");
  EXPECT_EQ(tokenizer->Decode(ids, false), "hello<s> h\xC3\xA9");
  EXPECT_EQ(tokenizer->Decode(ids, true), "hello h\xC3\xA9");
  EXPECT_EQ(tokenizer->Decode({0xC3, 'a', -1, 99999}, false), "\uFFFDa");
}

TEST(TokenizerTest, LooksUpTokens) {
  const auto tokenizer = Make(SmallTokenizerJson());
  EXPECT_EQ(tokenizer->TokenToId("Ġ"), 32);
  EXPECT_EQ(tokenizer->TokenToId("nope"), std::nullopt);
  EXPECT_EQ(tokenizer->TokenBytes(32), " ");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_EQ(tokenizer->TokenString(260), "<s>");
  EXPECT_TRUE(tokenizer->IsSpecial(260));
  EXPECT_FALSE(tokenizer->IsSpecial(32));
  EXPECT_FALSE(tokenizer->IsSpecial(4711));
  EXPECT_EQ(tokenizer->vocabulary_size(), 261);
}

TEST(TokenizerTest, EncodesInvalidBytesAsReplacementCharacters) {
  const auto tokenizer = Make(SmallTokenizerJson());
  EXPECT_EQ(tokenizer->Encode("a\xFF\xE2\x82"), tokenizer->Encode("a\uFFFD\uFFFD"));
}

TEST(TokenizerTest, EncodesLongUniformTextsFast) {
  const auto tokenizer = Make(SmallTokenizerJson());
  for (const char c : {' ', 'l', '\n', '<', '1'}) {
    const std::string text(200'000, c);
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text), false), text);
  }
}

TEST(TokenizerTest, RefusesOtherFamilies) {
  nlohmann::json json = SmallTokenizerJson();
  json["model"]["byte_fallback"] = true;
  EXPECT_EQ(ErrorOf(json),
            "t.json: model.byte_fallback is true; only byte-level BPE is supported, which needs no fallback");
  json = SmallTokenizerJson();
  json["model"]["type"] = "Unigram";
  EXPECT_EQ(ErrorOf(json), "t.json: model.type is \"Unigram\"; only byte-level \"BPE\" is supported");
  json = SmallTokenizerJson();
  json["pre_tokenizer"] = {{"type", "Metaspace"}};
  EXPECT_EQ(ErrorOf(json),
            "t.json: pre_tokenizer.type is \"Metaspace\"; supported are Split, Digits, ByteLevel and Sequence");
  json["pre_tokenizer"] = nullptr;
  EXPECT_EQ(ErrorOf(json),
            "t.json: pre_tokenizer is missing or null; expected ByteLevel or a Sequence that ends with it (only "
            "byte-level BPE is supported)");
  json = SmallTokenizerJson();
  json["decoder"]["type"] = "WordPiece";
  EXPECT_EQ(ErrorOf(json),
            "t.json: decoder.type is \"WordPiece\"; expected \"ByteLevel\" (only byte-level BPE is supported)");
  json = SmallTokenizerJson();
  json["normalizer"] = {{"type", "BertNormalizer"}};
  EXPECT_EQ(ErrorOf(json),
            "t.json: normalizer.type is \"BertNormalizer\"; supported are NFC, NFD, NFKC, NFKD, Lowercase, Prepend, "
            "Replace and Sequence");
}

TEST(TokenizerTest, NamesTheFaultyField) {
  nlohmann::json json = SmallTokenizerJson();
  json["model"]["merges"] = {"l q"};
  EXPECT_EQ(ErrorOf(json),
            "t.json: model.merges[0] is \"l q\"; expected both parts and their concatenation in model.vocab");
  json = SmallTokenizerJson();
  json["model"]["vocab"]["a"] = -7;
  EXPECT_EQ(ErrorOf(json), "t.json: model.vocab.a is -7; expected an id from 0 to 16777216");
  json = SmallTokenizerJson();
  json["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}};
  EXPECT_EQ(ErrorOf(json),
            "t.json: pre_tokenizer.pattern.Regex is \"(a\"; not a regular expression: missing closing parenthesis at "
            "byte 2");
  EXPECT_EQ(ErrorOf(nlohmann::json::array()), "t.json: model is missing or null; expected an object");
}

TEST(TokenizerTest, LoadNamesTheMissingFile) {
  const auto tokenizer = Tokenizer::Load("no/such/tokenizer.json");
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(tokenizer.status().message(), "no/such/tokenizer.json: cannot be read; expected a tokenizer.json");
}

}  // namespace
}  // namespace nabla
