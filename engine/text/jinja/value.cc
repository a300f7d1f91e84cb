#include "engine/text/jinja/value.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/python_text.h"
#include "engine/text/utf8.h"

namespace nabla::jinja {

const Value* CallArguments::Find(size_t position, const std::string& name) const {
  if (position < positional.size()) return &positional[position];
  for (const auto& [known, value] : named) {
    if (known == name) return &value;
  }
  return nullptr;
}

Value Value::Undefined(std::string message) {
  Value value;
  value.data_ = UndefinedData{std::make_shared<const std::string>(std::move(message))};
  return value;
}

Value Value::Sequence(SequenceKind kind, Items items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  Value value;
  value.data_ = std::make_shared<const SequenceData>(SequenceData{kind, std::move(items), depth + 1});
  return value;
}

Value Value::Dict(Entries entries) {
  int depth = 0;
  for (const auto& [key, entry] : entries) depth = std::max({depth, key.depth(), entry.depth()});
  Value value;
  value.data_ = std::make_shared<const DictData>(DictData{std::move(entries), depth + 1});
  return value;
}

Value Value::Callable(std::string name, Function function) {
  Value value;
  value.data_ = std::make_shared<const CallableData>(CallableData{std::move(name), std::move(function)});
  return value;
}

int64_t Value::integer() const {
  if (const auto* flag = std::get_if<bool>(&data_)) return *flag ? 1 : 0;
  return std::get<int64_t>(data_);
}

double Value::number() const {
  if (const auto* number = std::get_if<double>(&data_)) return *number;
  return static_cast<double>(integer());
}

bool Value::IsTrue() const {
  if (IsUndefined() || IsNone()) return false;
  if (IsInteger()) return integer() != 0;
  if (IsFloat()) return number() != 0;
  if (IsString()) return !string().empty();
  if (IsSequence()) return sequence_kind() == SequenceKind::kGenerator || !items().empty();
  if (IsDict()) return !entries().empty();
  return true;
}

std::string Value::ToText() const {
  if (IsUndefined()) return "";
  if (IsString()) return string();
  return Repr();
}

std::string Value::Repr() const {
  if (IsUndefined()) return "Undefined";
  if (IsNone()) return "None";
  if (IsBool()) return integer() != 0 ? "True" : "False";
  if (IsInteger()) return absl::StrCat(integer());
  if (IsFloat()) return FloatRepr(number());
  if (IsString()) return StringRepr(string());
  if (IsSequence()) {
    const bool is_tuple = sequence_kind() == SequenceKind::kTuple;
    std::string text = is_tuple ? "(" : "[";
    for (size_t i = 0; i < items().size(); ++i) absl::StrAppend(&text, i > 0 ? ", " : "", items()[i].Repr());
    if (is_tuple && items().size() == 1) text.push_back(',');
    text.push_back(is_tuple ? ')' : ']');
    return text;
  }
  if (IsDict()) {
    std::string text = "{";
    for (const auto& [key, value] : entries()) {
      absl::StrAppend(&text, text.size() > 1 ? ", " : "", key.Repr(), ": ", value.Repr());
    }
    text.push_back('}');
    return text;
  }
  if (IsObject()) return absl::StrCat("<", object()->TypeName(), ">");
  return absl::StrCat("<function ", callable_name(), ">");
}

std::string Value::TypeName() const {
  if (IsUndefined()) return "Undefined";
  if (IsNone()) return "NoneType";
  if (IsBool()) return "bool";
  if (IsInteger()) return "int";
  if (IsFloat()) return "float";
  if (IsString()) return "str";
  if (IsDict()) return "dict";
  if (IsObject()) return object()->TypeName();
  if (IsCallable()) return "function";
  switch (sequence_kind()) {
    case SequenceKind::kTuple:
      return "tuple";
    case SequenceKind::kGenerator:
      return "generator";
    case SequenceKind::kList:
      break;
  }
  return "list";
}

int Value::depth() const {
  if (const auto* sequence = std::get_if<std::shared_ptr<const SequenceData>>(&data_)) return (*sequence)->depth;
  if (const auto* dict = std::get_if<std::shared_ptr<const DictData>>(&data_)) return (*dict)->depth;
  return 0;
}

bool operator==(const Value& a, const Value& b) {
  if (a.IsInteger() && b.IsInteger()) return a.integer() == b.integer();
  if (a.IsNumber() && b.IsNumber()) return a.number() == b.number();
  if (a.IsString() && b.IsString()) return a.string() == b.string();
  if (a.IsSequence() && b.IsSequence()) return a.sequence_kind() == b.sequence_kind() && a.items() == b.items();
  if (a.IsDict() && b.IsDict()) {
    if (a.entries().size() != b.entries().size()) return false;
    return std::all_of(a.entries().begin(), a.entries().end(), [&b](const auto& entry) {
      const Value* other = FindEntry(b.entries(), entry.first);
      return other != nullptr && *other == entry.second;
    });
  }
  if (a.IsObject() && b.IsObject()) return a.object() == b.object();
  if (a.IsCallable() && b.IsCallable()) {
    using Shared = std::shared_ptr<const Value::CallableData>;
    return std::get<Shared>(a.data_) == std::get<Shared>(b.data_);
  }
  return (a.IsNone() && b.IsNone()) || (a.IsUndefined() && b.IsUndefined());
}

const Value* FindEntry(const Value::Entries& entries, const Value& key) {
  for (const auto& [known, value] : entries) {
    if (known == key) return &value;
  }
  return nullptr;
}

void SetEntry(Value::Entries& entries, Value key, Value value) {
  for (auto& [known, old] : entries) {
    if (known == key) {
      old = std::move(value);
      return;
    }
  }
  entries.emplace_back(std::move(key), std::move(value));
}

absl::StatusOr<int> CompareValues(const Value& a, const Value& b) {
  NABLA_RETURN_IF_ERROR(RequireDefined(a));
  NABLA_RETURN_IF_ERROR(RequireDefined(b));
  const auto order = [](const auto& x, const auto& y) { return x < y ? -1 : (y < x ? 1 : 0); };
  if (a.IsInteger() && b.IsInteger()) return order(a.integer(), b.integer());
  if (a.IsNumber() && b.IsNumber()) return order(a.number(), b.number());
  if (a.IsString() && b.IsString()) return order(a.string(), b.string());
  if (a.IsSequence() && b.IsSequence() && a.sequence_kind() == b.sequence_kind()) {
    for (size_t i = 0; i < std::min(a.items().size(), b.items().size()); ++i) {
      if (a.items()[i] == b.items()[i]) continue;
      return CompareValues(a.items()[i], b.items()[i]);
    }
    return order(a.items().size(), b.items().size());
  }
  return absl::InvalidArgumentError(absl::StrCat("'", a.TypeName(), "' and '", b.TypeName(), "' cannot be ordered"));
}

absl::StatusOr<Value::Items> Iterate(const Value& value) {
  if (value.IsSequence()) return value.items();
  Value::Items items;
  if (value.IsUndefined()) return items;
  if (value.IsDict()) {
    for (const auto& [key, entry] : value.entries()) items.push_back(key);
    return items;
  }
  if (value.IsString()) {
    for (const char32_t c : ToCodePoints(value.string())) {
      std::string character;
      AppendUtf8(c, character);
      items.emplace_back(std::move(character));
    }
    return items;
  }
  return absl::InvalidArgumentError(absl::StrCat("'", value.TypeName(), "' object is not iterable"));
}

absl::Status RequireDefined(const Value& value) {
  if (value.IsUndefined()) return absl::InvalidArgumentError(value.undefined_message());
  return absl::OkStatus();
}

}  // namespace nabla::jinja
