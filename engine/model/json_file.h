// Reads a JSON file whose top level is an object; errors name the file and what is wrong with it. For .cc files only:
// the header of nlohmann-json is slow to compile.
#ifndef NABLA_ENGINE_MODEL_JSON_FILE_H_
#define NABLA_ENGINE_MODEL_JSON_FILE_H_

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace nabla {

inline absl::StatusOr<nlohmann::json> ReadJsonObject(const std::string& file) {
  std::ifstream stream(file);
  if (!stream)
    return absl::NotFoundError(
        absl::StrCat(file, ": cannot be opened; expected a model folder in Hugging Face layout"));
  nlohmann::json json = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(file, ": is not a JSON object"));
  return json;
}

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_JSON_FILE_H_
