#include "engine/text/json_field.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace nabla {
namespace {

constexpr size_t kLongestValueShown = 80;

const nlohmann::json& NullJson() {
  static const auto* const kNull = new nlohmann::json();
  return *kNull;
}

}  // namespace

JsonField JsonField::Get(const std::string& name) const {
  std::string path = path_.empty() ? name : absl::StrCat(path_, ".", name);
  if (value_->is_object()) {
    const auto member = value_->find(name);
    if (member != value_->end()) return JsonField(*member, std::move(path), source_);
  }
  return JsonField(NullJson(), std::move(path), source_);
}

absl::StatusOr<std::string> JsonField::String() const {
  if (!value_->is_string()) return Error("expected a string");
  return value_->get<std::string>();
}

absl::StatusOr<int64_t> JsonField::Integer() const {
  if (!value_->is_number_integer()) return Error("expected an integer");
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return Error("expected a 64-bit signed integer");
  }
  return value_->get<int64_t>();
}

absl::StatusOr<bool> JsonField::Bool() const {
  if (!value_->is_boolean()) return Error("expected true or false");
  return value_->get<bool>();
}

absl::StatusOr<bool> JsonField::Bool(bool otherwise) const {
  if (IsNull()) return otherwise;
  return Bool();
}

absl::StatusOr<std::vector<JsonField>> JsonField::Items() const {
  if (!value_->is_array()) return Error("expected an array");
  std::vector<JsonField> items;
  items.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) items.push_back(Item(i));
  return items;
}

JsonField JsonField::Item(size_t index) const {
  return JsonField((*value_)[index], absl::StrCat(path_, "[", index, "]"), source_);
}

absl::Status JsonField::Error(const std::string& expectation) const {
  std::string shown =
      IsNull() ? "missing or null" : value_->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (shown.size() > kLongestValueShown) shown = absl::StrCat(shown.substr(0, kLongestValueShown), "…");
  return absl::InvalidArgumentError(
      absl::StrCat(source_, ": ", path_.empty() ? "document" : path_, " is ", shown, "; ", expectation));
}

}  // namespace nabla
