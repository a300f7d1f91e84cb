// Filters whose value is a text or a number.
#include <cmath>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/python_text.h"

namespace nabla::jinja {
namespace {

std::string Input(const CallArguments& arguments) { return arguments.positional[0].ToText(); }

template <std::string (*change)(const std::string&)>
absl::StatusOr<Value> Change(RenderContext&, const CallArguments& arguments) {
  return Value(change(Input(arguments)));
}

std::string Identity(const std::string& text) { return text; }

std::string EscapeHtml(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {"\"", "&#34;"}});
}

// Unlike str.title, words are only separated by white space, hyphens and opening brackets.
std::string TitleWords(const std::string& text) {
  std::string word;
  std::string result;
  const auto flush = [&] {
    const std::u32string letters = ToCodePoints(word);
    result.append(ToUpper(FromCodePoints(letters.substr(0, 1))));
    if (!letters.empty()) result.append(ToLower(FromCodePoints(letters.substr(1))));
    word.clear();
  };
  for (const char32_t c : ToCodePoints(text)) {
    const std::string character = FromCodePoints(std::u32string(1, c));
    if (IsPythonSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<') {
      flush();
      result.append(character);
    } else {
      word.append(character);
    }
  }
  flush();
  return result;
}

absl::StatusOr<Value> Trim(RenderContext&, const CallArguments& arguments) {
  const Value* given = arguments.Find(1, "chars");
  if (given == nullptr || given->IsNone()) return Value(StripText(Input(arguments), StripSide::kBoth, nullptr));
  NABLA_ASSIGN_OR_RETURN(const std::string characters, TextArgument(arguments, 1, "chars", ""));
  return Value(StripText(Input(arguments), StripSide::kBoth, &characters));
}

absl::StatusOr<Value> Replace(RenderContext& context, const CallArguments& arguments) {
  const std::string text = Input(arguments);
  NABLA_ASSIGN_OR_RETURN(const std::string old, TextArgument(arguments, 1, "old", ""));
  NABLA_ASSIGN_OR_RETURN(const std::string replacement, TextArgument(arguments, 2, "new", ""));
  NABLA_ASSIGN_OR_RETURN(int64_t count, IntegerArgument(arguments, 3, "count", -1));
  std::string replaced;
  size_t copied = 0;
  size_t search = 0;
  for (; count != 0; --count) {
    const size_t found = text.find(old, search);
    if (found == std::string::npos) break;
    NABLA_RETURN_IF_ERROR(context.Charge(replacement.size() + (found - copied)));
    replaced.append(text, copied, found - copied);
    replaced.append(replacement);
    copied = found + old.size();
    search = copied;
    if (old.empty()) {
      // An empty pattern matches before every character and at the end.
      if (search == text.size()) break;
      do ++search;
      while (search < text.size() && (static_cast<unsigned char>(text[search]) & 0xC0) == 0x80);
    }
  }
  replaced.append(text, copied, std::string::npos);
  return Value(std::move(replaced));
}

absl::StatusOr<Value> Indent(RenderContext& context, const CallArguments& arguments) {
  const std::string text = Input(arguments);
  std::string prefix;
  const Value* width = arguments.Find(1, "width");
  if (width != nullptr && width->IsString()) {
    prefix = width->string();
  } else {
    NABLA_ASSIGN_OR_RETURN(const int64_t spaces, IntegerArgument(arguments, 1, "width", 4));
    const size_t count = spaces > 0 ? static_cast<size_t>(spaces) : 0;
    NABLA_RETURN_IF_ERROR(context.Charge(count));
    prefix.assign(count, ' ');
  }
  const bool first = FlagArgument(arguments, 2, "first", false);
  const bool blank = FlagArgument(arguments, 3, "blank", false);
  std::vector<std::string> lines = SplitLines(text + "\n", /*keep_ends=*/false);
  NABLA_RETURN_IF_ERROR(context.Charge(lines.size(), prefix.size()));
  std::string indented;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) indented.push_back('\n');
    if (i > 0 ? (blank || !lines[i].empty()) : first) indented.append(prefix);
    indented.append(lines[i]);
  }
  return Value(std::move(indented));
}

absl::StatusOr<Value> ToJsonFilter(RenderContext& context, const CallArguments& arguments) {
  JsonFormat format;
  format.ensure_ascii = FlagArgument(arguments, 1, "ensure_ascii", false);
  NABLA_ASSIGN_OR_RETURN(const int64_t indent, IntegerArgument(arguments, 2, "indent", -1));
  if (indent > 100) return absl::InvalidArgumentError(absl::StrCat("indent is ", indent, "; expected at most 100"));
  format.indent = static_cast<int>(indent);
  const Value* separators = arguments.Find(3, "separators");
  if (separators != nullptr && separators->IsSequence() && separators->items().size() == 2) {
    format.item_separator = separators->items()[0].ToText();
    format.key_separator = separators->items()[1].ToText();
  }
  format.sort_keys = FlagArgument(arguments, 4, "sort_keys", false);
  NABLA_ASSIGN_OR_RETURN(std::string json, ToJson(arguments.positional[0], format));
  NABLA_RETURN_IF_ERROR(context.Charge(json.size()));
  return Value(std::move(json));
}

absl::StatusOr<Value> Int(RenderContext&, const CallArguments& arguments) {
  const Value& value = arguments.positional[0];
  NABLA_RETURN_IF_ERROR(RequireDefined(value));
  if (value.IsInteger()) return Value(value.integer());
  int64_t integer = 0;
  double number = 0;
  if (value.IsString() && absl::SimpleAtoi(value.string(), &integer)) return Value(integer);
  if (value.IsFloat()) {
    number = value.number();
  } else if (!value.IsString() || !absl::SimpleAtod(value.string(), &number)) {
    const Value* otherwise = arguments.Find(1, "default");
    return otherwise == nullptr ? Value(0) : *otherwise;
  }
  if (!(std::abs(number) < 9.2e18)) return absl::InvalidArgumentError("the integer does not fit into 64 bits");
  return Value(static_cast<int64_t>(number));
}

absl::StatusOr<Value> Float(RenderContext&, const CallArguments& arguments) {
  const Value& value = arguments.positional[0];
  NABLA_RETURN_IF_ERROR(RequireDefined(value));
  if (value.IsNumber()) return Value(value.number());
  double number = 0;
  if (value.IsString() && absl::SimpleAtod(value.string(), &number)) return Value(number);
  const Value* otherwise = arguments.Find(1, "default");
  return otherwise == nullptr ? Value(0.0) : *otherwise;
}

absl::StatusOr<Value> Abs(RenderContext&, const CallArguments& arguments) {
  const Value& value = arguments.positional[0];
  NABLA_RETURN_IF_ERROR(RequireDefined(value));
  if (value.IsFloat()) return Value(std::abs(value.number()));
  if (value.IsInteger()) return Value(std::abs(value.integer()));
  return absl::InvalidArgumentError(absl::StrCat("bad operand type for abs(): '", value.TypeName(), "'"));
}

absl::StatusOr<Value> Round(RenderContext&, const CallArguments& arguments) {
  const Value& value = arguments.positional[0];
  NABLA_RETURN_IF_ERROR(RequireDefined(value));
  if (!value.IsNumber()) return absl::InvalidArgumentError(absl::StrCat("round of a '", value.TypeName(), "'"));
  NABLA_ASSIGN_OR_RETURN(const int64_t precision, IntegerArgument(arguments, 1, "precision", 0));
  NABLA_ASSIGN_OR_RETURN(const std::string method, TextArgument(arguments, 2, "method", "common"));
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.number() * scale;
  if (method == "ceil") return Value(std::ceil(scaled) / scale);
  if (method == "floor") return Value(std::floor(scaled) / scale);
  if (method != "common") return absl::InvalidArgumentError("method must be common, ceil or floor");
  return Value(std::nearbyint(scaled) / scale);
}

absl::StatusOr<Value> WordCount(RenderContext&, const CallArguments& arguments) {
  return Value(static_cast<int64_t>(SplitText(Input(arguments), nullptr, -1).size()));
}

}  // namespace

const FilterTable& TextFilters() {
  static const auto* const kFilters = new FilterTable{
      {"abs", Abs},
      {"capitalize", Change<Capitalize>},
      {"e", Change<EscapeHtml>},
      {"escape", Change<EscapeHtml>},
      {"float", Float},
      {"indent", Indent},
      {"int", Int},
      {"lower", Change<ToLower>},
      {"replace", Replace},
      {"round", Round},
      {"safe", Change<Identity>},
      {"string", Change<Identity>},
      {"title", Change<TitleWords>},
      {"tojson", ToJsonFilter},
      {"trim", Trim},
      {"upper", Change<ToUpper>},
      {"wordcount", WordCount},
  };
  return *kFilters;
}

}  // namespace nabla::jinja
