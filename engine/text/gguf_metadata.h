// Reads the metadata of a GGUF file (version 2 or 3, little-endian): what stands before its tensors, as one JSON object
// of keys and values. Keys are whole ("tokenizer.ggml.model"), strings keep their bytes, UTF-8 or not.
//
// Thread-safe. Blocks on reading the file, of which it touches nothing behind the metadata. Every length and count is
// checked against the bytes that are there: a truncated or damaged file is an InvalidArgument that names the key.
// NotFound where the file cannot be opened.
//
//   NABLA_ASSIGN_OR_RETURN(const nlohmann::json metadata, ReadGgufMetadata("model.gguf"));
//   const JsonField root(metadata, "", "model.gguf");
//   NABLA_ASSIGN_OR_RETURN(const std::string name, root.Get("general.name").String());
#ifndef NABLA_ENGINE_TEXT_GGUF_METADATA_H_
#define NABLA_ENGINE_TEXT_GGUF_METADATA_H_

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace nabla {

absl::StatusOr<nlohmann::json> ReadGgufMetadata(const std::string& path);

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_GGUF_METADATA_H_
