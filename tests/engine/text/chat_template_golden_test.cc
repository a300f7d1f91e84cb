#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/text/chat_template.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/engine/golden_dir.h"

namespace nabla {
namespace {

namespace fs = std::filesystem;

std::string TextOrEmpty(const nlohmann::json& object, const std::string& name) {
  return object.contains(name) && object[name].is_string() ? object[name].get<std::string>() : "";
}

void CheckCases(const fs::path& path) {
  std::ifstream file(path);
  const nlohmann::json golden = nlohmann::json::parse(file);
  const auto chat_template = ChatTemplate::Create(golden["template"].get<std::string>(),
                                                  TextOrEmpty(golden, "bos_token"), TextOrEmpty(golden, "eos_token"));
  ASSERT_TRUE(chat_template.ok()) << path << ": " << chat_template.status();
  ASSERT_FALSE(golden["cases"].empty()) << path;
  for (const nlohmann::json& expected : golden["cases"]) {
    SCOPED_TRACE(path.string() + ": " + expected.dump());
    std::vector<ChatMessage> messages;
    for (const nlohmann::json& message : expected["messages"]) {
      messages.push_back({message["role"].get<std::string>(), message["content"].get<std::string>()});
    }
    const auto rendered = chat_template->Render(messages, expected["add_generation_prompt"].get<bool>());
    if (expected.contains("rendered") && expected["rendered"].is_string()) {
      ASSERT_TRUE(rendered.ok()) << rendered.status();
      EXPECT_EQ(*rendered, expected["rendered"].get<std::string>());
    } else {
      EXPECT_EQ(rendered.status().code(), absl::StatusCode::kInvalidArgument);
      // The reference may put the type of its exception before the text the template raised.
      const std::string error = TextOrEmpty(expected, "error");
      ASSERT_FALSE(error.empty());
      EXPECT_NE(error.find(std::string(rendered.status().message())), std::string::npos) << rendered.status();
    }
  }
}

TEST(ChatTemplateGoldenTest, RendersAsTheReference) {
  const fs::path golden = GoldenDir();
  ASSERT_FALSE(golden.empty()) << kNoGoldenDir;
  ASSERT_TRUE(fs::is_directory(golden / "chat_templates")) << golden;
  int files = 0;
  for (const auto& entry : fs::directory_iterator(golden / "chat_templates")) {
    if (entry.path().extension() != ".json") continue;
    ++files;
    CheckCases(entry.path());
  }
  EXPECT_GT(files, 0) << "no chat template below " << golden;
}

TEST(ChatTemplateGoldenTest, RendersTheModelsPrompts) {
  const fs::path golden = GoldenDir();
  ASSERT_FALSE(golden.empty()) << kNoGoldenDir;
  int models = 0;
  for (const auto& entry : fs::directory_iterator(golden)) {
    const fs::path source_path = entry.path() / "lm" / "chat_template.jinja";
    if (!fs::exists(source_path) || !fs::exists(entry.path() / "golden.json")) continue;
    std::ifstream source_file(source_path);
    const std::string source((std::istreambuf_iterator<char>(source_file)), std::istreambuf_iterator<char>());
    std::ifstream golden_file(entry.path() / "golden.json");
    const nlohmann::json expected = nlohmann::json::parse(golden_file);
    const auto chat_template = ChatTemplate::Create(source, "", "");
    ASSERT_TRUE(chat_template.ok()) << source_path << ": " << chat_template.status();
    const std::vector<ChatMessage> messages = {{"user", expected["prompt"].get<std::string>()}};
    const auto rendered = chat_template->Render(messages, /*add_generation_prompt=*/true);
    ASSERT_TRUE(rendered.ok()) << source_path << ": " << rendered.status();
    EXPECT_EQ(*rendered, expected["prompt_text"].get<std::string>()) << source_path;
    ++models;
  }
  EXPECT_GT(models, 0) << "no model with a chat template below " << golden;
}

}  // namespace
}  // namespace nabla
