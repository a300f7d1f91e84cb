// value.name, value[key] and value[a:b:c].
#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/python_text.h"
#include "engine/text/utf8.h"

namespace nabla::jinja {
namespace {

// How Jinja names what lacks an attribute.
std::string Describe(const Value& value) { return value.IsNone() ? "None" : absl::StrCat(value.TypeName(), " object"); }

Value EntriesAsItems(const Value& dict) {
  Value::Items items;
  for (const auto& [key, entry] : dict.entries()) items.push_back(Value::Sequence(SequenceKind::kTuple, {key, entry}));
  return Value::List(std::move(items));
}

Value GetDictMethod(const Value& dict, const std::string& name) {
  if (name == "items") {
    return Value::Callable(name, [dict](RenderContext&, const CallArguments&) { return EntriesAsItems(dict); });
  }
  if (name == "keys" || name == "values") {
    return Value::Callable(name, [dict, keys = name == "keys"](RenderContext&, const CallArguments&) {
      Value::Items items;
      for (const auto& [key, entry] : dict.entries()) items.push_back(keys ? key : entry);
      return Value::List(std::move(items));
    });
  }
  if (name == "get") {
    return Value::Callable(name, [dict](RenderContext&, const CallArguments& arguments) -> absl::StatusOr<Value> {
      const Value* key = arguments.Find(0, "key");
      if (key == nullptr) return absl::InvalidArgumentError("get expected at least 1 argument, got 0");
      if (const Value* entry = FindEntry(dict.entries(), *key)) return *entry;
      const Value* otherwise = arguments.Find(1, "default");
      return otherwise == nullptr ? Value() : *otherwise;
    });
  }
  if (name == "copy") {
    return Value::Callable(name, [dict](RenderContext&, const CallArguments&) { return dict; });
  }
  return Value::Undefined("");
}

Value GetSequenceMethod(const Value& sequence, const std::string& name) {
  if (name == "count" || name == "index") {
    return Value::Callable(name,
                           [sequence, name](RenderContext&, const CallArguments& arguments) -> absl::StatusOr<Value> {
                             const Value* wanted = arguments.Find(0, "value");
                             if (wanted == nullptr)
                               return absl::InvalidArgumentError(absl::StrCat(name, " expected 1 argument, got 0"));
                             const Value::Items& items = sequence.items();
                             if (name == "count")
                               return Value(int64_t{std::count(items.begin(), items.end(), *wanted)});
                             const auto found = std::find(items.begin(), items.end(), *wanted);
                             if (found == items.end())
                               return absl::InvalidArgumentError(absl::StrCat(wanted->Repr(), " is not in list"));
                             return Value(int64_t{found - items.begin()});
                           });
  }
  return Value::Undefined("");
}

Value GetMethod(const Value& value, const std::string& name) {
  if (value.IsDict()) return GetDictMethod(value, name);
  if (value.IsString()) return GetStringMethod(value, name);
  if (value.IsSequence()) return GetSequenceMethod(value, name);
  return Value::Undefined("");
}

Value MissingAttribute(const Value& value, const std::string& name) {
  return Value::Undefined(absl::StrCat("'", Describe(value), "' has no attribute '", name, "'"));
}

}  // namespace

absl::StatusOr<Value> GetAttribute(const Value& value, const std::string& name) {
  NABLA_RETURN_IF_ERROR(RequireDefined(value));
  if (value.IsObject()) {
    std::optional<Value> attribute = value.object()->Get(name);
    return attribute.has_value() ? *std::move(attribute) : MissingAttribute(value, name);
  }
  Value method = GetMethod(value, name);
  if (!method.IsUndefined()) return method;
  if (value.IsDict()) {
    if (const Value* entry = FindEntry(value.entries(), Value(name))) return *entry;
  }
  return MissingAttribute(value, name);
}

absl::StatusOr<Value> GetItem(const Value& value, const Value& key) {
  NABLA_RETURN_IF_ERROR(RequireDefined(value));
  if (value.IsDict()) {
    if (const Value* entry = FindEntry(value.entries(), key)) return *entry;
  } else if (key.IsInteger() && (value.IsString() || value.IsSequence())) {
    const int64_t size =
        value.IsString() ? CountCharacters(value.string()) : static_cast<int64_t>(value.items().size());
    const int64_t index = key.integer() < 0 ? key.integer() + size : key.integer();
    const bool subscriptable = value.IsString() || value.sequence_kind() != SequenceKind::kGenerator;
    if (subscriptable && index >= 0 && index < size) {
      if (value.IsSequence()) return value.items()[static_cast<size_t>(index)];
      std::string character;
      AppendUtf8(ToCodePoints(value.string())[static_cast<size_t>(index)], character);
      return Value(std::move(character));
    }
  }
  if (key.IsString()) return GetAttribute(value, key.string());
  return Value::Undefined(absl::StrCat(Describe(value), " has no element ", key.Repr()));
}

absl::StatusOr<Value> GetSlice(const Value& value, const Value& start, const Value& stop, const Value& step) {
  NABLA_RETURN_IF_ERROR(RequireDefined(value));
  if (!value.IsString() && !value.IsSequence()) {
    return Value::Undefined(absl::StrCat(Describe(value), " has no element slice"));
  }
  for (const Value* bound : {&start, &stop, &step}) {
    NABLA_RETURN_IF_ERROR(RequireDefined(*bound));
    if (!bound->IsNone() && !bound->IsInteger()) {
      return absl::InvalidArgumentError(
          absl::StrCat("slice index is ", bound->Repr(), "; expected an integer or none"));
    }
  }
  const std::u32string characters = value.IsString() ? ToCodePoints(value.string()) : std::u32string();
  const auto size = static_cast<int64_t>(value.IsString() ? characters.size() : value.items().size());
  const int64_t stride = step.IsNone() ? 1 : step.integer();
  if (stride == 0) return absl::InvalidArgumentError("slice step cannot be zero");
  // As Python clips: a position before the beginning is 0 forwards and -1 backwards.
  const int64_t lowest = stride > 0 ? 0 : -1;
  const int64_t highest = stride > 0 ? size : size - 1;
  const auto clip = [&](const Value& bound, int64_t otherwise) {
    if (bound.IsNone()) return otherwise;
    const int64_t position = bound.integer() < 0 ? bound.integer() + size : bound.integer();
    return std::clamp(position, lowest, highest);
  };
  const int64_t first = clip(start, stride > 0 ? lowest : highest);
  const int64_t last = clip(stop, stride > 0 ? highest : lowest);
  std::u32string text;
  Value::Items items;
  for (int64_t i = first; stride > 0 ? i < last : i > last;) {
    if (value.IsString()) {
      text.push_back(characters[static_cast<size_t>(i)]);
    } else {
      items.push_back(value.items()[static_cast<size_t>(i)]);
    }
    if (__builtin_add_overflow(i, stride, &i)) break;
  }
  if (value.IsString()) return Value(FromCodePoints(text));
  return Value::Sequence(value.sequence_kind(), std::move(items));
}

}  // namespace nabla::jinja
