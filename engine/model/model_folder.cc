#include "engine/model/model_folder.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/json_file.h"
#include "engine/text/chat_template.h"

namespace nabla {
namespace {

using Json = nlohmann::json;

// A special token is a string, or an object with its content, or null.
std::string TokenText(const Json& config, const char* field) {
  const auto it = config.find(field);
  if (it == config.end()) return "";
  if (it->is_string()) return it->get<std::string>();
  if (it->is_object() && it->contains("content") && (*it)["content"].is_string())
    return (*it)["content"].get<std::string>();
  return "";
}

// chat_template is a string, or a list of named templates of which "default" is meant.
std::optional<std::string> EmbeddedTemplate(const Json& config) {
  const auto it = config.find("chat_template");
  if (it == config.end()) return std::nullopt;
  if (it->is_string()) return it->get<std::string>();
  if (!it->is_array()) return std::nullopt;
  for (const Json& named : *it) {
    if (named.is_object() && named.value("name", Json()) == "default" && named.contains("template") &&
        named["template"].is_string()) {
      return named["template"].get<std::string>();
    }
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<ModelText> LoadModelText(const std::string& folder) {
  ModelText text;
  NABLA_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::Load(folder + "/tokenizer.json"));
  Json config = Json::object();
  const std::string config_file = folder + "/tokenizer_config.json";
  if (std::filesystem::exists(config_file)) {
    NABLA_ASSIGN_OR_RETURN(config, ReadJsonObject(config_file));
  }
  std::string template_file = folder + "/chat_template.jinja";
  std::optional<std::string> source;
  if (std::ifstream stream(template_file); stream) {
    std::ostringstream content;
    content << stream.rdbuf();
    source = content.str();
  } else {
    template_file = config_file;
    source = EmbeddedTemplate(config);
  }
  if (!source) return text;
  absl::StatusOr<ChatTemplate> parsed =
      ChatTemplate::Create(*source, TokenText(config, "bos_token"), TokenText(config, "eos_token"));
  if (!parsed.ok())
    return absl::Status(parsed.status().code(), absl::StrCat(template_file, ": ", parsed.status().message()));
  text.chat_template = std::make_shared<const ChatTemplate>(*std::move(parsed));
  return text;
}

}  // namespace nabla
