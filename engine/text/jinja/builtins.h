// Everything templates find without defining it: filters, tests, functions, and the attributes and methods of values.
// They are Jinja's, with the changes of Hugging Face's environment (tojson, raise_exception, strftime_now).
//
// Stateless and thread-safe; errors are InvalidArgument.
//
//   NABLA_ASSIGN_OR_RETURN(Value text, ApplyFilter(context, "trim", {Value(" a ")}));  // the filtered value comes
//   first NABLA_ASSIGN_OR_RETURN(bool yes, ApplyTest(context, "string", {text}));
#ifndef NABLA_ENGINE_TEXT_JINJA_BUILTINS_H_
#define NABLA_ENGINE_TEXT_JINJA_BUILTINS_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/text/jinja/render_context.h"
#include "engine/text/jinja/value.h"

namespace nabla::jinja {

using Filter = absl::StatusOr<Value> (*)(RenderContext&, const CallArguments&);
using FilterTable = absl::flat_hash_map<std::string, Filter>;
const FilterTable& TextFilters();
const FilterTable& SequenceFilters();

// Positional argument 0 is the value that is filtered or tested.
absl::StatusOr<Value> ApplyFilter(RenderContext& context, const std::string& name, const CallArguments& arguments);
absl::StatusOr<bool> ApplyTest(RenderContext& context, const std::string& name, const CallArguments& arguments);

// range, namespace, dict, raise_exception, strftime_now; null for another name.
const Value* FindFunction(const std::string& name);

// value.name and value[key]; Undefined where there is nothing.
absl::StatusOr<Value> GetAttribute(const Value& value, const std::string& name);
absl::StatusOr<Value> GetItem(const Value& value, const Value& key);
// value[start:stop:step], None where left out.
absl::StatusOr<Value> GetSlice(const Value& value, const Value& start, const Value& stop, const Value& step);
// Methods of strings; Undefined for an unknown name.
Value GetStringMethod(const Value& text, const std::string& name);

// json.dumps with Python's separators; `indent` is negative for one line.
struct JsonFormat {
  int indent = -1;
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::string item_separator;  // "" for Python's default
  std::string key_separator = ": ";
};
absl::StatusOr<std::string> ToJson(const Value& value, const JsonFormat& format);

// Arguments of functions, filters and methods, with their defaults. Errors name `what`.
absl::StatusOr<int64_t> IntegerArgument(const CallArguments& arguments, size_t position, const std::string& name,
                                        int64_t otherwise);
absl::StatusOr<std::string> TextArgument(const CallArguments& arguments, size_t position, const std::string& name,
                                         const std::string& otherwise);
bool FlagArgument(const CallArguments& arguments, size_t position, const std::string& name, bool otherwise);

}  // namespace nabla::jinja

#endif  // NABLA_ENGINE_TEXT_JINJA_BUILTINS_H_
