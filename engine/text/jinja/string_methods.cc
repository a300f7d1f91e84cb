// The methods of str.
#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/python_text.h"

namespace nabla::jinja {
namespace {

using Method = absl::StatusOr<Value> (*)(RenderContext&, const std::string&, const CallArguments&);

template <StripSide side>
absl::StatusOr<Value> Strip(RenderContext&, const std::string& text, const CallArguments& arguments) {
  const Value* given = arguments.Find(0, "chars");
  if (given == nullptr || given->IsNone()) return Value(StripText(text, side, nullptr));
  NABLA_ASSIGN_OR_RETURN(const std::string characters, TextArgument(arguments, 0, "chars", ""));
  return Value(StripText(text, side, &characters));
}

Value ToList(std::vector<std::string> texts) {
  Value::Items items;
  for (std::string& text : texts) items.emplace_back(std::move(text));
  return Value::List(std::move(items));
}

template <bool from_right>
absl::StatusOr<Value> Split(RenderContext& context, const std::string& text, const CallArguments& arguments) {
  NABLA_RETURN_IF_ERROR(context.Charge(text.size(), sizeof(Value)));
  NABLA_ASSIGN_OR_RETURN(const int64_t limit, IntegerArgument(arguments, 1, "maxsplit", -1));
  const Value* given = arguments.Find(0, "sep");
  if (given == nullptr || given->IsNone()) {
    if (from_right && limit >= 0) return absl::InvalidArgumentError("rsplit with maxsplit needs a separator here");
    return ToList(SplitText(text, nullptr, limit));
  }
  NABLA_ASSIGN_OR_RETURN(const std::string separator, TextArgument(arguments, 0, "sep", ""));
  if (separator.empty()) return absl::InvalidArgumentError("empty separator");
  return ToList(from_right ? SplitTextFromRight(text, separator, limit) : SplitText(text, &separator, limit));
}

absl::StatusOr<Value> SplitIntoLines(RenderContext& context, const std::string& text, const CallArguments& arguments) {
  NABLA_RETURN_IF_ERROR(context.Charge(text.size(), sizeof(Value)));
  return ToList(SplitLines(text, FlagArgument(arguments, 0, "keepends", false)));
}

template <bool at_start>
absl::StatusOr<Value> StartsOrEndsWith(RenderContext&, const std::string& text, const CallArguments& arguments) {
  const Value* wanted = arguments.Find(0, at_start ? "prefix" : "suffix");
  const auto matches = [&text](const std::string& part) {
    return at_start ? absl::StartsWith(text, part) : absl::EndsWith(text, part);
  };
  if (wanted != nullptr && wanted->IsSequence()) {
    return Value(std::any_of(wanted->items().begin(), wanted->items().end(),
                             [&](const Value& item) { return item.IsString() && matches(item.string()); }));
  }
  if (wanted == nullptr || !wanted->IsString()) {
    return absl::InvalidArgumentError(absl::StrCat(at_start ? "startswith" : "endswith",
                                                   " first arg must be str or a tuple of str, not ",
                                                   wanted == nullptr ? "missing" : wanted->TypeName()));
  }
  return Value(matches(wanted->string()));
}

template <std::string (*change)(const std::string&)>
absl::StatusOr<Value> Change(RenderContext&, const std::string& text, const CallArguments&) {
  return Value(change(text));
}

absl::StatusOr<Value> Replace(RenderContext& context, const std::string& text, const CallArguments& arguments) {
  CallArguments all = arguments;
  all.positional.insert(all.positional.begin(), Value(text));
  return ApplyFilter(context, "replace", all);
}

absl::StatusOr<Value> Join(RenderContext& context, const std::string& text, const CallArguments& arguments) {
  if (arguments.positional.empty()) return absl::InvalidArgumentError("join() takes exactly one argument (0 given)");
  NABLA_ASSIGN_OR_RETURN(const Value::Items items, Iterate(arguments.positional[0]));
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].IsString()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("sequence item ", i, ": expected str instance, ", items[i].TypeName(), " found"));
  }
  return ApplyFilter(context, "join", {{arguments.positional[0], Value(text)}, {}});
}

template <bool last, bool must_exist>
absl::StatusOr<Value> Find(RenderContext&, const std::string& text, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const std::string part, TextArgument(arguments, 0, "sub", ""));
  const size_t found = last ? text.rfind(part) : text.find(part);
  if (found == std::string::npos) {
    if (must_exist) return absl::InvalidArgumentError("substring not found");
    return Value(-1);
  }
  return Value(CountCharacters(text.substr(0, found)));
}

absl::StatusOr<Value> Count(RenderContext&, const std::string& text, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const std::string part, TextArgument(arguments, 0, "sub", ""));
  if (part.empty()) return Value(CountCharacters(text) + 1);
  int64_t count = 0;
  for (size_t i = text.find(part); i != std::string::npos; i = text.find(part, i + part.size())) ++count;
  return Value(count);
}

template <bool prefix>
absl::StatusOr<Value> RemoveAffix(RenderContext&, const std::string& text, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const std::string part, TextArgument(arguments, 0, prefix ? "prefix" : "suffix", ""));
  if (prefix && absl::StartsWith(text, part)) return Value(text.substr(part.size()));
  if (!prefix && absl::EndsWith(text, part)) return Value(text.substr(0, text.size() - part.size()));
  return Value(text);
}

absl::StatusOr<Value> IsDigit(RenderContext&, const std::string& text, const CallArguments&) {
  return Value(!text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }));
}

absl::StatusOr<Value> IsSpace(RenderContext&, const std::string& text, const CallArguments&) {
  return Value(!text.empty() && StripText(text, StripSide::kBoth, nullptr).empty());
}

absl::StatusOr<Value> IsUpper(RenderContext&, const std::string& text, const CallArguments&) {
  return Value(ToUpper(text) == text && ToLower(text) != text);
}

absl::StatusOr<Value> IsLower(RenderContext&, const std::string& text, const CallArguments&) {
  return Value(ToLower(text) == text && ToUpper(text) != text);
}

const absl::flat_hash_map<std::string, Method>& Methods() {
  static const auto* const kMethods = new absl::flat_hash_map<std::string, Method>{
      {"strip", Strip<StripSide::kBoth>},
      {"lstrip", Strip<StripSide::kLeft>},
      {"rstrip", Strip<StripSide::kRight>},
      {"split", Split<false>},
      {"rsplit", Split<true>},
      {"splitlines", SplitIntoLines},
      {"startswith", StartsOrEndsWith<true>},
      {"endswith", StartsOrEndsWith<false>},
      {"upper", Change<ToUpper>},
      {"lower", Change<ToLower>},
      {"title", Change<ToTitle>},
      {"capitalize", Change<Capitalize>},
      {"replace", Replace},
      {"join", Join},
      {"find", Find<false, false>},
      {"rfind", Find<true, false>},
      {"index", Find<false, true>},
      {"rindex", Find<true, true>},
      {"count", Count},
      {"removeprefix", RemoveAffix<true>},
      {"removesuffix", RemoveAffix<false>},
      {"isdigit", IsDigit},
      {"isspace", IsSpace},
      {"isupper", IsUpper},
      {"islower", IsLower},
  };
  return *kMethods;
}

}  // namespace

Value GetStringMethod(const Value& text, const std::string& name) {
  const auto found = Methods().find(name);
  if (found == Methods().end()) return Value::Undefined("");
  return Value::Callable(name, [text, method = found->second](RenderContext& context, const CallArguments& arguments) {
    return method(context, text.string(), arguments);
  });
}

}  // namespace nabla::jinja
