// A value inside a JSON file together with where it stands, so that every error can name file, field and value.
//
// Thread-safe (immutable). Refers to the document, which must outlive it. A missing member is a field whose IsNull()
// holds, so optional members read as `Get("x").Bool(false)`. Errors are InvalidArgument.
//
//   JsonField root(document, "", "tokenizer.json");
//   NABLA_ASSIGN_OR_RETURN(std::string type, root.Get("model").Get("type").String());
//   if (type != "BPE") return root.Get("model").Get("type").Error("expected \"BPE\"");
#ifndef NABLA_ENGINE_TEXT_JSON_FIELD_H_
#define NABLA_ENGINE_TEXT_JSON_FIELD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace nabla {

class JsonField {
 public:
  JsonField(const nlohmann::json& value, std::string path, std::string source)
      : value_(&value), path_(std::move(path)), source_(std::move(source)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& source() const { return source_; }
  bool IsNull() const { return value_->is_null(); }

  // The member `name`; null where it is missing or this is no object.
  JsonField Get(const std::string& name) const;

  absl::StatusOr<std::string> String() const;
  absl::StatusOr<int64_t> Integer() const;
  // Without an argument the member must be there; with one, null means `otherwise`.
  absl::StatusOr<bool> Bool() const;
  absl::StatusOr<bool> Bool(bool otherwise) const;
  absl::StatusOr<std::vector<JsonField>> Items() const;
  JsonField Item(size_t index) const;  // of an array that has it

  // "<source>: <path> is <value>; <expectation>", long values cut short.
  absl::Status Error(const std::string& expectation) const;

 private:
  const nlohmann::json* value_;
  std::string path_;
  std::string source_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_JSON_FIELD_H_
