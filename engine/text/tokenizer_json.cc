// Tokenizer::Load and FromJson: reading a tokenizer.json.
#include <cstdint>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/tokenizer.h"

namespace nabla {
namespace {

// Ids index a table, so a stray huge one must not make it huge.
constexpr int64_t kLargestId = 1 << 24;

std::optional<int32_t> IdOf(const nlohmann::json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  const auto id = value.get<int64_t>();
  if (id < 0 || id > kLargestId) return std::nullopt;
  return static_cast<int32_t>(id);
}

absl::StatusOr<int32_t> ParseId(const JsonField& field) {
  const std::optional<int32_t> id = IdOf(field.value());
  if (!id) return field.Error(absl::StrCat("expected an id from 0 to ", kLargestId));
  return *id;
}

absl::StatusOr<Vocabulary> ParseVocabulary(const JsonField& field) {
  if (!field.value().is_object() || field.value().empty()) return field.Error("expected an object of tokens and ids");
  Vocabulary vocabulary;
  vocabulary.reserve(field.value().size());
  for (const auto& [token, value] : field.value().items()) {
    const std::optional<int32_t> id = IdOf(value);
    if (!id) return ParseId(field.Get(token)).status();
    vocabulary.emplace(token, *id);
  }
  return vocabulary;
}

absl::StatusOr<AddedToken> ParseAddedToken(const JsonField& field, const Vocabulary& vocabulary) {
  AddedToken token;
  NABLA_ASSIGN_OR_RETURN(token.id, ParseId(field.Get("id")));
  NABLA_ASSIGN_OR_RETURN(token.content, field.Get("content").String());
  NABLA_ASSIGN_OR_RETURN(token.special, field.Get("special").Bool(false));
  NABLA_ASSIGN_OR_RETURN(token.normalized, field.Get("normalized").Bool(!token.special));
  NABLA_ASSIGN_OR_RETURN(token.lstrip, field.Get("lstrip").Bool(false));
  NABLA_ASSIGN_OR_RETURN(token.rstrip, field.Get("rstrip").Bool(false));
  NABLA_ASSIGN_OR_RETURN(token.single_word, field.Get("single_word").Bool(false));
  const auto known = vocabulary.find(token.content);
  // As in Hugging Face's tokenizers: an added token that the vocabulary also has keeps the vocabulary's id.
  if (known != vocabulary.end()) token.id = known->second;
  return token;
}

absl::Status CheckDecoder(const JsonField& decoder) {
  NABLA_ASSIGN_OR_RETURN(const std::string type, decoder.Get("type").String());
  if (type == "Sequence") {
    NABLA_ASSIGN_OR_RETURN(const std::vector<JsonField> items, decoder.Get("decoders").Items());
    if (items.size() == 1) return CheckDecoder(items[0]);
  }
  if (type == "ByteLevel") return absl::OkStatus();
  return decoder.Get("type").Error("expected \"ByteLevel\" (only byte-level BPE is supported)");
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (!file || !(content << file.rdbuf())) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read; expected a tokenizer.json"));
  }
  return FromJson(content.str(), path);
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromJson(const std::string& json,
                                                                     const std::string& source_name) {
  nlohmann::json document;
  try {
    document = nlohmann::json::parse(json);
  } catch (const nlohmann::json::parse_error& error) {
    return absl::InvalidArgumentError(absl::StrCat(source_name, ": not JSON: ", error.what()));
  }
  return FromDocument(document, source_name);
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromDocument(const nlohmann::json& document,
                                                                         const std::string& source_name) {
  const JsonField root(document, "", source_name);
  // The model first: it decides the family, and its error says the most.
  const JsonField model = root.Get("model");
  if (!model.value().is_object()) return model.Error("expected an object");
  // Files of the first GPT-2 tokenizers do not name the model.
  const JsonField type = model.Get("type");
  if (!type.IsNull() && type.value() != "BPE") return type.Error("only byte-level \"BPE\" is supported");
  NABLA_ASSIGN_OR_RETURN(Vocabulary vocabulary, ParseVocabulary(model.Get("vocab")));
  NABLA_ASSIGN_OR_RETURN(ByteLevelBpe bpe, ByteLevelBpe::FromJson(model, vocabulary));
  NABLA_ASSIGN_OR_RETURN(Normalizer normalizer, Normalizer::FromJson(root.Get("normalizer")));
  NABLA_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::FromJson(root.Get("pre_tokenizer")));
  NABLA_RETURN_IF_ERROR(CheckDecoder(root.Get("decoder")));

  std::vector<AddedToken> added_tokens;
  if (!root.Get("added_tokens").IsNull()) {
    NABLA_ASSIGN_OR_RETURN(const std::vector<JsonField> items, root.Get("added_tokens").Items());
    for (const JsonField& item : items) {
      NABLA_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(item, vocabulary));
      added_tokens.push_back(std::move(token));
    }
  }
  return std::shared_ptr<const Tokenizer>(absl::WrapUnique(new Tokenizer(
      std::move(normalizer), std::move(pre_tokenizer), std::move(bpe), std::move(vocabulary), added_tokens)));
}

}  // namespace nabla
