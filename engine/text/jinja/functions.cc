// The functions templates can call, and how arguments are read.
#include <ctime>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/builtins.h"

namespace nabla::jinja {
namespace {

// As in Jinja's sandbox.
constexpr int64_t kLongestRange = 100'000;

class Namespace : public Object {
 public:
  explicit Namespace(Value::Entries entries) : entries_(std::move(entries)) {}

  std::string TypeName() const override { return "Namespace"; }
  std::optional<Value> Get(const std::string& name) const override {
    const Value* value = FindEntry(entries_, Value(name));
    return value == nullptr ? std::nullopt : std::make_optional(*value);
  }
  bool Set(const std::string& name, Value value) override {
    SetEntry(entries_, Value(name), std::move(value));
    return true;
  }

 private:
  Value::Entries entries_;
};

absl::StatusOr<Value::Entries> CollectEntries(const CallArguments& arguments) {
  Value::Entries entries;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.IsDict()) {
      entries = source.entries();
    } else {
      NABLA_ASSIGN_OR_RETURN(const Value::Items pairs, Iterate(source));
      for (const Value& pair : pairs) {
        if (!pair.IsSequence() || pair.items().size() != 2) {
          return absl::InvalidArgumentError(absl::StrCat("expected pairs of key and value, not ", pair.Repr()));
        }
        SetEntry(entries, pair.items()[0], pair.items()[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) SetEntry(entries, Value(name), value);
  return entries;
}

absl::StatusOr<Value> MakeNamespace(RenderContext& context, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(Value::Entries entries, CollectEntries(arguments));
  return Value(context.Own(std::make_unique<Namespace>(std::move(entries))));
}

absl::StatusOr<Value> MakeDict(RenderContext&, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(Value::Entries entries, CollectEntries(arguments));
  return Value::Dict(std::move(entries));
}

absl::StatusOr<Value> Range(RenderContext& context, const CallArguments& arguments) {
  const bool has_start = arguments.positional.size() > 1;
  NABLA_ASSIGN_OR_RETURN(const int64_t first, IntegerArgument(arguments, 0, "start", 0));
  NABLA_ASSIGN_OR_RETURN(const int64_t second, IntegerArgument(arguments, 1, "stop", 0));
  NABLA_ASSIGN_OR_RETURN(const int64_t step, IntegerArgument(arguments, 2, "step", 1));
  if (step == 0) return absl::InvalidArgumentError("range() arg 3 must not be zero");
  const int64_t start = has_start ? first : 0;
  const int64_t stop = has_start ? second : first;
  Value::Items items;
  int64_t i = start;
  while (step > 0 ? i < stop : i > stop) {
    if (static_cast<int64_t>(items.size()) == kLongestRange) {
      return absl::InvalidArgumentError(absl::StrCat("range too big; the longest is ", kLongestRange));
    }
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  NABLA_RETURN_IF_ERROR(context.Charge(items.size(), sizeof(Value)));
  return Value::List(std::move(items));
}

absl::StatusOr<Value> RaiseException(RenderContext& context, const CallArguments& arguments) {
  const Value* message = arguments.Find(0, "message");
  return context.Raise(message == nullptr ? "" : message->ToText());
}

absl::StatusOr<Value> StrftimeNow(RenderContext&, const CallArguments& arguments) {
  NABLA_ASSIGN_OR_RETURN(const std::string format, TextArgument(arguments, 0, "format", ""));
  return Value(absl::FormatTime(format, absl::Now(), absl::LocalTimeZone()));
}

}  // namespace

const Value* FindFunction(const std::string& name) {
  static const auto* const kFunctions = new absl::flat_hash_map<std::string, Value>{
      {"dict", Value::Callable("dict", MakeDict)},
      {"namespace", Value::Callable("namespace", MakeNamespace)},
      {"raise_exception", Value::Callable("raise_exception", RaiseException)},
      {"range", Value::Callable("range", Range)},
      {"strftime_now", Value::Callable("strftime_now", StrftimeNow)},
  };
  const auto found = kFunctions->find(name);
  return found == kFunctions->end() ? nullptr : &found->second;
}

absl::StatusOr<int64_t> IntegerArgument(const CallArguments& arguments, size_t position, const std::string& name,
                                        int64_t otherwise) {
  const Value* value = arguments.Find(position, name);
  if (value == nullptr || value->IsNone()) return otherwise;
  NABLA_RETURN_IF_ERROR(RequireDefined(*value));
  if (!value->IsInteger()) {
    return absl::InvalidArgumentError(
        absl::StrCat("argument '", name, "' is ", value->Repr(), "; expected an integer"));
  }
  return value->integer();
}

absl::StatusOr<std::string> TextArgument(const CallArguments& arguments, size_t position, const std::string& name,
                                         const std::string& otherwise) {
  const Value* value = arguments.Find(position, name);
  if (value == nullptr) return otherwise;
  NABLA_RETURN_IF_ERROR(RequireDefined(*value));
  if (!value->IsString()) {
    return absl::InvalidArgumentError(absl::StrCat("argument '", name, "' is ", value->Repr(), "; expected a string"));
  }
  return value->string();
}

bool FlagArgument(const CallArguments& arguments, size_t position, const std::string& name, bool otherwise) {
  const Value* value = arguments.Find(position, name);
  return value == nullptr ? otherwise : value->IsTrue();
}

}  // namespace nabla::jinja
