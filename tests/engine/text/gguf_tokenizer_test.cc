#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/strip.h"
#include "engine/text/tokenizer.h"
#include "gtest/gtest.h"
#include "tests/engine/text/gguf_writer.h"
#include "tests/engine/text/small_tokenizer.h"

namespace nabla {
namespace {

// The tokenizer of SmallTokenizerJson as a GGUF file has it. Members may be changed before Write(); empty strings and
// lists are left out.
struct SmallGguf {
  SmallGguf() : tokens(259), types(259, 1) {
    const nlohmann::json json = SmallTokenizerJson();
    for (const auto& [token, id] : json["model"]["vocab"].items()) tokens[id.get<size_t>()] = token;
    Add("[PAD259]", 5);
    Add("<s>", 3);
    Add("<tool>", 4);
  }

  void Add(const std::string& token, int32_t type) {
    tokens.push_back(token);
    types.push_back(type);
  }

  std::string Write() const {
    GgufWriter writer;
    if (!model.empty()) writer.AddString("tokenizer.ggml.model", model);
    if (!pre.empty()) writer.AddString("tokenizer.ggml.pre", pre);
    if (add_space_prefix) writer.Add("tokenizer.ggml.add_space_prefix", 7, GgufNumber<uint8_t>(1));
    std::vector<std::string> type_bytes;
    for (const int32_t type : types) type_bytes.push_back(GgufNumber(type));
    AddArray(writer, "tokenizer.ggml.tokens", 8, Strings(tokens));
    AddArray(writer, "tokenizer.ggml.token_type", 5, type_bytes);
    AddArray(writer, "tokenizer.ggml.merges", 8, Strings(merges));
    return writer.Bytes();
  }

  static std::vector<std::string> Strings(const std::vector<std::string>& texts) {
    std::vector<std::string> bytes;
    for (const std::string& text : texts) bytes.push_back(GgufString(text));
    return bytes;
  }

  static void AddArray(GgufWriter& writer, const std::string& key, uint32_t type,
                       const std::vector<std::string>& elements) {
    if (!elements.empty()) writer.Add(key, 9, GgufArray(type, elements));
  }

  std::string model = "gpt2";
  std::string pre = "gpt-2";
  bool add_space_prefix = false;
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<std::string> merges = {"l l", "h e", "he ll"};
};

std::shared_ptr<const Tokenizer> Make(const SmallGguf& gguf) {
  const TemporaryFile file(gguf.Write());
  auto tokenizer = Tokenizer::LoadGguf(file.path());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *tokenizer : nullptr;
}

// The error of such a file, without the file's name.
std::string ErrorOf(const SmallGguf& gguf) {
  const TemporaryFile file(gguf.Write());
  const absl::Status status = Tokenizer::LoadGguf(file.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(absl::StripPrefix(status.message(), file.path()));
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

TEST(GgufTokenizerTest, EncodesAsTheTokenizerJson) {
  const auto from_gguf = Make(SmallGguf());
  const auto from_json = Tokenizer::FromJson(SmallTokenizerJson().dump(), "t.json");
  ASSERT_TRUE(from_json.ok()) << from_json.status();
  for (const char* text : {"", "hello lll", "a<s>b 12 é", "shell's\n\n  heap"}) {
    const std::vector<int32_t> ids = from_gguf->Encode(text);
    EXPECT_EQ(ids, (*from_json)->Encode(text)) << text;
    EXPECT_EQ(from_gguf->Decode(ids, false), text);
  }
}

TEST(GgufTokenizerTest, TakesTheKindsOfTokensApart) {
  const auto tokenizer = Make(SmallGguf());
  EXPECT_EQ(Pieces(*tokenizer, "a<s><tool>"), "a|<s>|<tool>");
  EXPECT_TRUE(tokenizer->IsSpecial(260));
  EXPECT_FALSE(tokenizer->IsSpecial(261));
  EXPECT_EQ(tokenizer->Decode({'a', 259, 260, 261}, /*skip_special_tokens=*/true), "a<tool>");
  EXPECT_EQ(tokenizer->TokenToId("[PAD259]"), std::nullopt);
  EXPECT_EQ(tokenizer->vocabulary_size(), 262);
}

TEST(GgufTokenizerTest, CutsAsTheFamilyDoes) {
  SmallGguf gguf;
  gguf.Add("12", 1);
  gguf.Add("34", 1);
  gguf.Add(".l", 1);
  gguf.Add("1234", 1);
  gguf.Add("ĠABC", 1);
  gguf.merges = {"1 2", "3 4", ". l", "12 34"};
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"smollm", "1|2|3|4|.|l|Ġ|A|B|C"}, {"llama-bpe", "12|3|4|.l|ĠABC"}, {"qwen2", "1|2|3|4|.l|Ġ|A|B|C"},
      {"gpt-2", "1234|.|l|Ġ|A|B|C"},     {"default", "1234|.|l|Ġ|A|B|C"}, {"", "1234|.|l|Ġ|A|B|C"},
  };
  for (const auto& [pre, pieces] : expected) {
    gguf.pre = pre;
    EXPECT_EQ(Pieces(*Make(gguf), "1234.l ABC"), pieces) << pre;
    // Qwen 2 alone composes characters.
    EXPECT_EQ(Make(gguf)->Encode("e\u0301").size(), pre == "qwen2" ? 2 : 3) << pre;
  }
}

TEST(GgufTokenizerTest, RefusesOtherFamilies) {
  SmallGguf gguf;
  gguf.model = "llama";
  EXPECT_EQ(ErrorOf(gguf), ": tokenizer.ggml.model is \"llama\"; only \"gpt2\" (byte-level BPE) is supported");
  gguf.model = "";
  EXPECT_EQ(ErrorOf(gguf), ": tokenizer.ggml.model is missing or null; only \"gpt2\" (byte-level BPE) is supported");
  gguf = SmallGguf();
  gguf.pre = "deepseek-llm";
  EXPECT_EQ(
      ErrorOf(gguf),
      ": tokenizer.ggml.pre is \"deepseek-llm\"; supported are \"smollm\", \"llama-bpe\", \"qwen2\", \"gpt-2\" and "
      "\"default\"");
  gguf = SmallGguf();
  gguf.add_space_prefix = true;
  EXPECT_EQ(ErrorOf(gguf),
            ": tokenizer.ggml.add_space_prefix is true; expected false: no supported family puts a space before the "
            "text");
}

TEST(GgufTokenizerTest, NamesTheFaultyField) {
  SmallGguf gguf;
  gguf.types.resize(1);
  EXPECT_EQ(ErrorOf(gguf), ": tokenizer.ggml.token_type is [1]; expected one type for each of the 262 tokens");
  gguf.types.clear();
  EXPECT_EQ(ErrorOf(gguf), ": tokenizer.ggml.token_type is missing or null; expected an array");
  gguf = SmallGguf();
  gguf.types[7] = 6;
  EXPECT_EQ(ErrorOf(gguf),
            ": tokenizer.ggml.token_type[7] is 6; expected 1 (normal), 3 (control), 4 (user-defined) or 5 (unused)");
  gguf = SmallGguf();
  gguf.tokens[98] = "a";
  EXPECT_EQ(ErrorOf(gguf), ": tokenizer.ggml.tokens[98] is \"a\"; token 97 reads the same; expected each once");
  gguf = SmallGguf();
  gguf.merges = {"l q"};
  EXPECT_EQ(ErrorOf(gguf),
            " (as tokenizer.json): model.merges[0] is \"l q\"; expected both parts and their concatenation in "
            "model.vocab");
  gguf.merges.clear();
  EXPECT_EQ(ErrorOf(gguf), ": tokenizer.ggml.merges is missing or null; expected an array");
  gguf = SmallGguf();
  gguf.tokens.clear();
  EXPECT_EQ(ErrorOf(gguf), ": tokenizer.ggml.tokens is missing or null; expected an array");
}

TEST(GgufTokenizerTest, NamesTheMissingFile) {
  const absl::Status status = Tokenizer::LoadGguf("no/such.gguf").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "no/such.gguf: cannot be opened: No such file or directory; expected a GGUF file");
}

}  // namespace
}  // namespace nabla
