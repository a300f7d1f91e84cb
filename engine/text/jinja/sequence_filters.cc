// Filters over sequences and dicts, and those that take any value.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/python_text.h"

namespace nabla::jinja {
namespace {

const Value& Input(const CallArguments& arguments) { return arguments.positional[0]; }

// "a.b.0": attributes of attributes, numbers being indices.
absl::StatusOr<Value> GetPath(const Value& value, const Value& path) {
  if (!path.IsString()) return GetItem(value, path);
  Value current = value;
  for (const absl::string_view part : absl::StrSplit(path.string(), '.')) {
    int64_t index = 0;
    const Value key = absl::SimpleAtoi(part, &index) ? Value(index) : Value(std::string(part));
    NABLA_ASSIGN_OR_RETURN(current, GetItem(current, key));
  }
  return current;
}

// What sorting and uniqueness look at: the attribute if one is named; texts without case unless asked.
absl::StatusOr<Value> SortKey(const Value& item, const Value* attribute, bool case_sensitive) {
  Value key = item;
  if (attribute != nullptr && !attribute->IsNone()) {
    NABLA_ASSIGN_OR_RETURN(key, GetPath(item, *attribute));
  }
  return key.IsString() && !case_sensitive ? Value(ToLower(key.string())) : key;
}

// Indices of `keys` in ascending order, equal ones in the order they had (in reverse too, as in Python).
absl::StatusOr<std::vector<size_t>> StableOrder(const Value::Items& keys, bool reverse) {
  std::vector<size_t> order(keys.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  absl::Status status;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (!status.ok()) return false;
    const absl::StatusOr<int> comparison = CompareValues(keys[a], keys[b]);
    if (!comparison.ok()) status = comparison.status();
    return comparison.ok() && (reverse ? *comparison > 0 : *comparison < 0);
  });
  if (!status.ok()) return status;
  return order;
}

absl::StatusOr<Value> Default(RenderContext&, const CallArguments& arguments) {
  const Value* otherwise = arguments.Find(1, "default_value");
  const bool replaces_false = FlagArgument(arguments, 2, "boolean", false);
  if (!Input(arguments).IsUndefined() && !(replaces_false && !Input(arguments).IsTrue())) return Input(arguments);
  return otherwise == nullptr ? Value("") : *otherwise;
}

absl::StatusOr<Value> Length(RenderContext&, const CallArguments& arguments) {
  const Value& value = Input(arguments);
  if (value.IsUndefined()) return Value(0);
  if (value.IsString()) return Value(CountCharacters(value.string()));
  if (value.IsDict()) return Value(static_cast<int64_t>(value.entries().size()));
  if (value.IsSequence() && value.sequence_kind() != SequenceKind::kGenerator) {
    return Value(static_cast<int64_t>(value.items().size()));
  }
  return absl::InvalidArgumentError(absl::StrCat("object of type '", value.TypeName(), "' has no len()"));
}

template <bool last>
absl::StatusOr<Value> Edge(RenderContext&, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const Value::Items items, Iterate(Input(arguments)));
  if (items.empty()) return Value::Undefined("No first or last item, sequence was empty.");
  return last ? items.back() : items.front();
}

absl::StatusOr<Value> List(RenderContext& context, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(Value::Items items, Iterate(Input(arguments)));
  NABLA_RETURN_IF_ERROR(context.Charge(items.size(), sizeof(Value)));
  return Value::List(std::move(items));
}

absl::StatusOr<Value> Items(RenderContext&, const CallArguments& arguments) {
  const Value& value = Input(arguments);
  if (value.IsUndefined()) return Value::Sequence(SequenceKind::kGenerator, {});
  if (!value.IsDict()) return absl::InvalidArgumentError("Can only get item pairs from a mapping.");
  Value::Items items;
  for (const auto& [key, entry] : value.entries()) items.push_back(Value::Sequence(SequenceKind::kTuple, {key, entry}));
  return Value::Sequence(SequenceKind::kGenerator, std::move(items));
}

absl::StatusOr<Value> DictSort(RenderContext&, const CallArguments& arguments) {
  const Value& value = Input(arguments);
  NABLA_RETURN_IF_ERROR(RequireDefined(value));
  if (!value.IsDict()) return absl::InvalidArgumentError(absl::StrCat("'", value.TypeName(), "' is not a mapping"));
  const bool case_sensitive = FlagArgument(arguments, 1, "case_sensitive", false);
  NABLA_ASSIGN_OR_RETURN(const std::string by, TextArgument(arguments, 2, "by", "key"));
  Value::Items keys;
  for (const auto& [key, entry] : value.entries()) {
    NABLA_ASSIGN_OR_RETURN(Value sort_key, SortKey(by == "value" ? entry : key, nullptr, case_sensitive));
    keys.push_back(std::move(sort_key));
  }
  NABLA_ASSIGN_OR_RETURN(const std::vector<size_t> order,
                         StableOrder(keys, FlagArgument(arguments, 3, "reverse", false)));
  Value::Items sorted;
  for (const size_t i : order) {
    sorted.push_back(Value::Sequence(SequenceKind::kTuple, {value.entries()[i].first, value.entries()[i].second}));
  }
  return Value::List(std::move(sorted));
}

absl::StatusOr<Value> Join(RenderContext& context, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const Value::Items items, Iterate(Input(arguments)));
  const Value* separator = arguments.Find(1, "d");
  const std::string between = separator == nullptr ? "" : separator->ToText();
  const Value* attribute = arguments.Find(2, "attribute");
  std::string joined;
  for (size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (attribute != nullptr && !attribute->IsNone()) {
      NABLA_ASSIGN_OR_RETURN(item, GetPath(item, *attribute));
    }
    const std::string text = item.ToText();
    NABLA_RETURN_IF_ERROR(context.Charge(text.size() + between.size()));
    absl::StrAppend(&joined, i > 0 ? between : "", text);
  }
  return Value(std::move(joined));
}

absl::StatusOr<Value> Reverse(RenderContext&, const CallArguments& arguments) {
  if (Input(arguments).IsString()) return GetSlice(Input(arguments), Value(), Value(), Value(-1));
  NABLA_ASSIGN_OR_RETURN(Value::Items items, Iterate(Input(arguments)));
  std::reverse(items.begin(), items.end());
  return Value::Sequence(SequenceKind::kGenerator, std::move(items));
}

absl::StatusOr<Value> Sort(RenderContext&, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const Value::Items items, Iterate(Input(arguments)));
  const bool case_sensitive = FlagArgument(arguments, 2, "case_sensitive", false);
  Value::Items keys;
  for (const Value& item : items) {
    NABLA_ASSIGN_OR_RETURN(Value key, SortKey(item, arguments.Find(3, "attribute"), case_sensitive));
    keys.push_back(std::move(key));
  }
  NABLA_ASSIGN_OR_RETURN(const std::vector<size_t> order,
                         StableOrder(keys, FlagArgument(arguments, 1, "reverse", false)));
  Value::Items sorted;
  for (const size_t i : order) sorted.push_back(items[i]);
  return Value::List(std::move(sorted));
}

absl::StatusOr<Value> Unique(RenderContext&, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const Value::Items items, Iterate(Input(arguments)));
  const bool case_sensitive = FlagArgument(arguments, 1, "case_sensitive", false);
  Value::Items seen;
  Value::Items unique;
  for (const Value& item : items) {
    NABLA_ASSIGN_OR_RETURN(Value key, SortKey(item, arguments.Find(2, "attribute"), case_sensitive));
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) continue;
    seen.push_back(std::move(key));
    unique.push_back(item);
  }
  return Value::Sequence(SequenceKind::kGenerator, std::move(unique));
}

template <bool greatest>
absl::StatusOr<Value> Extreme(RenderContext&, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const Value::Items items, Iterate(Input(arguments)));
  if (items.empty()) return Value::Undefined("No aggregated item, sequence was empty.");
  const bool case_sensitive = FlagArgument(arguments, 1, "case_sensitive", false);
  size_t best = 0;
  Value best_key;
  for (size_t i = 0; i < items.size(); ++i) {
    NABLA_ASSIGN_OR_RETURN(Value key, SortKey(items[i], arguments.Find(2, "attribute"), case_sensitive));
    if (i > 0) {
      NABLA_ASSIGN_OR_RETURN(const int order, CompareValues(key, best_key));
      if (greatest ? order <= 0 : order >= 0) continue;
    }
    best = i;
    best_key = std::move(key);
  }
  return items[best];
}

absl::StatusOr<Value> Sum(RenderContext& context, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const Value::Items items, Iterate(Input(arguments)));
  const Value* attribute = arguments.Find(1, "attribute");
  const Value* start = arguments.Find(2, "start");
  Value sum = start == nullptr ? Value(0) : *start;
  for (Value item : items) {
    if (attribute != nullptr && !attribute->IsNone()) {
      NABLA_ASSIGN_OR_RETURN(item, GetPath(item, *attribute));
    }
    NABLA_ASSIGN_OR_RETURN(sum, ApplyBinary(context, "+", sum, item));
  }
  return sum;
}

absl::StatusOr<Value> Map(RenderContext& context, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const Value::Items items, Iterate(Input(arguments)));
  const bool by_filter = arguments.positional.size() > 1;
  const Value* attribute = by_filter ? nullptr : arguments.Find(1, "attribute");
  if (!by_filter && attribute == nullptr) return absl::InvalidArgumentError("map requires a filter argument");
  const Value* otherwise = arguments.Find(arguments.positional.size(), "default");
  CallArguments inner{{arguments.positional.begin() + (by_filter ? 1 : 0), arguments.positional.end()},
                      arguments.named};
  Value::Items mapped;
  for (const Value& item : items) {
    NABLA_RETURN_IF_ERROR(context.CountStep());
    Value value;
    if (by_filter) {
      inner.positional[0] = item;
      NABLA_ASSIGN_OR_RETURN(value, ApplyFilter(context, arguments.positional[1].ToText(), inner));
    } else {
      NABLA_ASSIGN_OR_RETURN(value, GetPath(item, *attribute));
      if (value.IsUndefined() && otherwise != nullptr) value = *otherwise;
    }
    mapped.push_back(std::move(value));
  }
  return Value::Sequence(SequenceKind::kGenerator, std::move(mapped));
}

// select, reject, and by an attribute selectattr, rejectattr.
template <bool keeps, bool by_attribute>
absl::StatusOr<Value> Select(RenderContext& context, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const Value::Items items, Iterate(Input(arguments)));
  const size_t test_position = by_attribute ? 2 : 1;
  if (arguments.positional.size() < test_position)
    return absl::InvalidArgumentError("Missing parameter for attribute name");
  const bool has_test = arguments.positional.size() > test_position;
  CallArguments inner{{Value()}, arguments.named};
  if (has_test) {
    inner.positional.insert(inner.positional.end(), arguments.positional.begin() + test_position + 1,
                            arguments.positional.end());
  }
  Value::Items selected;
  for (const Value& item : items) {
    NABLA_RETURN_IF_ERROR(context.CountStep());
    Value tested = item;
    if (by_attribute) {
      NABLA_ASSIGN_OR_RETURN(tested, GetPath(item, arguments.positional[1]));
    }
    bool passes = tested.IsTrue();
    if (has_test) {
      inner.positional[0] = tested;
      NABLA_ASSIGN_OR_RETURN(passes, ApplyTest(context, arguments.positional[test_position].ToText(), inner));
    }
    if (passes == keeps) selected.push_back(item);
  }
  return Value::Sequence(SequenceKind::kGenerator, std::move(selected));
}

absl::StatusOr<Value> Attr(RenderContext&, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const std::string name, TextArgument(arguments, 1, "name", ""));
  return GetAttribute(Input(arguments), name);
}

}  // namespace

const FilterTable& SequenceFilters() {
  static const auto* const kFilters = new FilterTable{
      {"attr", Attr},
      {"count", Length},
      {"d", Default},
      {"default", Default},
      {"dictsort", DictSort},
      {"first", Edge<false>},
      {"items", Items},
      {"join", Join},
      {"last", Edge<true>},
      {"length", Length},
      {"list", List},
      {"map", Map},
      {"max", Extreme<true>},
      {"min", Extreme<false>},
      {"reject", Select<false, false>},
      {"rejectattr", Select<false, true>},
      {"reverse", Reverse},
      {"select", Select<true, false>},
      {"selectattr", Select<true, true>},
      {"sort", Sort},
      {"sum", Sum},
      {"unique", Unique},
  };
  return *kFilters;
}

absl::StatusOr<Value> ApplyFilter(RenderContext& context, const std::string& name, const CallArguments& arguments) {
  for (const FilterTable* table : {&TextFilters(), &SequenceFilters()}) {
    const auto found = table->find(name);
    if (found != table->end()) return found->second(context, arguments);
  }
  return absl::InvalidArgumentError(absl::StrCat("No filter named '", name, "'"));
}

}  // namespace nabla::jinja
