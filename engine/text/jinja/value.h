// A value of a template: Python's None, bool, int (64 bits), float, str, list, tuple, dict, Jinja's Undefined, and what
// templates call.
//
// Values are immutable and cheap to copy (strings and containers are shared). Objects (namespace, loop) are the one
// thing with state; values point to them and the RenderContext owns them for the time of one rendering.
//
//   Value list = Value::List({Value(1), Value("a")});
//   list.ToText();  // "[1, 'a']", as str() writes it
#ifndef NABLA_ENGINE_TEXT_JINJA_VALUE_H_
#define NABLA_ENGINE_TEXT_JINJA_VALUE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace nabla::jinja {

class RenderContext;
class Value;

struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // The argument at `position` or called `name`; null where neither is given.
  const Value* Find(size_t position, const std::string& name) const;
};

using Function = std::function<absl::StatusOr<Value>(RenderContext&, const CallArguments&)>;

// Something with attributes that change.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string TypeName() const = 0;
  virtual std::optional<Value> Get(const std::string& name) const = 0;
  // False where the object's attributes cannot be assigned.
  virtual bool Set(const std::string& name, Value value) = 0;
};

enum class SequenceKind {
  kList,
  kTuple,
  kGenerator,  // what filters such as map return: always true, without a length
};

class Value {
 public:
  using Items = std::vector<Value>;
  using Entries = std::vector<std::pair<Value, Value>>;  // in order of insertion, keys unique

  Value() = default;  // None
  explicit Value(bool value) : data_(value) {}
  explicit Value(int value) : data_(int64_t{value}) {}
  explicit Value(int64_t value) : data_(value) {}
  explicit Value(double value) : data_(value) {}
  explicit Value(std::string value) : data_(std::make_shared<const std::string>(std::move(value))) {}
  explicit Value(const char* value) : Value(std::string(value)) {}
  explicit Value(Object* object) : data_(object) {}

  // `message` is the error of using it for more than printing and testing.
  static Value Undefined(std::string message);
  static Value List(Items items) { return Sequence(SequenceKind::kList, std::move(items)); }
  static Value Sequence(SequenceKind kind, Items items);
  static Value Dict(Entries entries);
  static Value Callable(std::string name, Function function);

  bool IsUndefined() const { return std::holds_alternative<UndefinedData>(data_); }
  bool IsNone() const { return std::holds_alternative<std::monostate>(data_); }
  bool IsBool() const { return std::holds_alternative<bool>(data_); }
  bool IsInteger() const { return std::holds_alternative<int64_t>(data_) || IsBool(); }  // bool is an int in Python
  bool IsFloat() const { return std::holds_alternative<double>(data_); }
  bool IsNumber() const { return IsInteger() || IsFloat(); }
  bool IsString() const { return std::holds_alternative<std::shared_ptr<const std::string>>(data_); }
  bool IsSequence() const { return std::holds_alternative<std::shared_ptr<const SequenceData>>(data_); }
  bool IsDict() const { return std::holds_alternative<std::shared_ptr<const DictData>>(data_); }
  bool IsObject() const { return std::holds_alternative<Object*>(data_); }
  bool IsCallable() const { return std::holds_alternative<std::shared_ptr<const CallableData>>(data_); }

  // Each requires the type of its name.
  const std::string& undefined_message() const { return *std::get<UndefinedData>(data_).message; }
  int64_t integer() const;
  double number() const;  // of an integer too
  const std::string& string() const { return *std::get<std::shared_ptr<const std::string>>(data_); }
  const Items& items() const { return std::get<std::shared_ptr<const SequenceData>>(data_)->items; }
  SequenceKind sequence_kind() const { return std::get<std::shared_ptr<const SequenceData>>(data_)->kind; }
  const Entries& entries() const { return std::get<std::shared_ptr<const DictData>>(data_)->entries; }
  Object* object() const { return std::get<Object*>(data_); }
  const std::string& callable_name() const { return std::get<std::shared_ptr<const CallableData>>(data_)->name; }
  const Function& function() const { return std::get<std::shared_ptr<const CallableData>>(data_)->function; }

  bool IsTrue() const;
  std::string ToText() const;  // str()
  std::string Repr() const;    // repr()
  std::string TypeName() const;
  // How deep containers are nested: 0 for a scalar.
  int depth() const;

  friend bool operator==(const Value& a, const Value& b);

 private:
  struct UndefinedData {
    std::shared_ptr<const std::string> message;
  };
  struct SequenceData {
    SequenceKind kind;
    Items items;
    int depth;
  };
  struct DictData {
    Entries entries;
    int depth;
  };
  struct CallableData {
    std::string name;
    Function function;
  };

  std::variant<std::monostate, UndefinedData, bool, int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<const SequenceData>, std::shared_ptr<const DictData>,
               std::shared_ptr<const CallableData>, Object*>
      data_;
};

// The value of `key`, or null.
const Value* FindEntry(const Value::Entries& entries, const Value& key);
// Adds or replaces.
void SetEntry(Value::Entries& entries, Value key, Value value);

// -1, 0 or 1; an error where Python cannot order the two.
absl::StatusOr<int> CompareValues(const Value& a, const Value& b);

// What a for loop walks: items, keys, characters; nothing for Undefined.
absl::StatusOr<Value::Items> Iterate(const Value& value);

// InvalidArgument where an undefined value is used.
absl::Status RequireDefined(const Value& value);

}  // namespace nabla::jinja

#endif  // NABLA_ENGINE_TEXT_JINJA_VALUE_H_
