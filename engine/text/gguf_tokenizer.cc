// Tokenizer::LoadGguf: the tokenizer of a GGUF file, put back into the tokenizer.json that it was converted from.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/gguf_metadata.h"
#include "engine/text/tokenizer.h"

namespace nabla {
namespace {

// The values of tokenizer.ggml.token_type that byte-level BPE uses.
enum TokenType : int64_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

nlohmann::json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
}

// Llama 3 and Qwen 2 cut alike but for how many digits stand together.
nlohmann::json SplitThenByteLevel(const std::string& digits) {
  const std::string pattern = absl::StrCat(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)", digits,
                                           R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
  const nlohmann::json split = {
      {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", nlohmann::json::array({split, ByteLevel(false)})}};
}

// What the tokenizer.json of a family has besides its tokens and merges.
absl::StatusOr<nlohmann::json> FamilyDocument(const JsonField& pre) {
  std::string name = "default";
  if (!pre.IsNull()) {
    NABLA_ASSIGN_OR_RETURN(name, pre.String());
  }
  nlohmann::json document;
  document["decoder"] = {{"type", "ByteLevel"}};
  document["model"] = {{"type", "BPE"}};
  if (name == "default" || name == "gpt-2") {
    document["pre_tokenizer"] = ByteLevel(true);
  } else if (name == "smollm") {
    const nlohmann::json digits = {{"type", "Digits"}, {"individual_digits", true}};
    document["pre_tokenizer"] = {{"type", "Sequence"},
                                 {"pretokenizers", nlohmann::json::array({digits, ByteLevel(true)})}};
  } else if (name == "llama-bpe") {
    document["pre_tokenizer"] = SplitThenByteLevel(R"(\p{N}{1,3})");
    document["model"]["ignore_merges"] = true;
  } else if (name == "qwen2") {
    document["normalizer"] = {{"type", "NFC"}};
    document["pre_tokenizer"] = SplitThenByteLevel(R"(\p{N})");
  } else {
    return pre.Error("supported are \"smollm\", \"llama-bpe\", \"qwen2\", \"gpt-2\" and \"default\"");
  }
  return document;
}

absl::Status AddTokens(const JsonField& token_field, const JsonField& type_field, nlohmann::json& document) {
  NABLA_ASSIGN_OR_RETURN(const std::vector<JsonField> tokens, token_field.Items());
  NABLA_ASSIGN_OR_RETURN(const std::vector<JsonField> types, type_field.Items());
  if (types.size() != tokens.size()) {
    return type_field.Error(absl::StrCat("expected one type for each of the ", tokens.size(), " tokens"));
  }
  nlohmann::json vocabulary = nlohmann::json::object();
  nlohmann::json added_tokens = nlohmann::json::array();
  for (size_t id = 0; id < tokens.size(); ++id) {
    NABLA_ASSIGN_OR_RETURN(const std::string text, tokens[id].String());
    NABLA_ASSIGN_OR_RETURN(const int64_t type, types[id].Integer());
    if (type == kUnused) continue;  // pads the table to the model's size; a tokenizer.json has no such tokens
    if (!vocabulary.emplace(text, id).second) {
      return tokens[id].Error(absl::StrCat("token ", vocabulary[text].dump(), " reads the same; expected each once"));
    }
    if (type == kControl || type == kUserDefined) {
      added_tokens.push_back({{"id", id}, {"content", text}, {"special", type == kControl}, {"normalized", false}});
    } else if (type != kNormal) {
      return types[id].Error("expected 1 (normal), 3 (control), 4 (user-defined) or 5 (unused)");
    }
  }
  document["model"]["vocab"] = std::move(vocabulary);
  document["added_tokens"] = std::move(added_tokens);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::LoadGguf(const std::string& path) {
  NABLA_ASSIGN_OR_RETURN(const nlohmann::json metadata, ReadGgufMetadata(path));
  const JsonField root(metadata, "", path);
  const JsonField model = root.Get("tokenizer.ggml.model");
  if (model.value() != "gpt2") return model.Error("only \"gpt2\" (byte-level BPE) is supported");
  NABLA_ASSIGN_OR_RETURN(nlohmann::json document, FamilyDocument(root.Get("tokenizer.ggml.pre")));
  const JsonField prefix = root.Get("tokenizer.ggml.add_space_prefix");
  NABLA_ASSIGN_OR_RETURN(const bool add_prefix, prefix.Bool(false));
  if (add_prefix) return prefix.Error("expected false: no supported family puts a space before the text");
  NABLA_RETURN_IF_ERROR(AddTokens(root.Get("tokenizer.ggml.tokens"), root.Get("tokenizer.ggml.token_type"), document));
  const JsonField merges = root.Get("tokenizer.ggml.merges");
  if (!merges.value().is_array()) return merges.Error("expected an array");
  document["model"]["merges"] = merges.value();
  return FromDocument(document, absl::StrCat(path, " (as tokenizer.json)"));
}

}  // namespace nabla
