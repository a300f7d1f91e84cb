#include "engine/text/jinja/loop.h"

#include <utility>

#include "absl/status/status.h"

namespace nabla::jinja {

Loop::Loop(Value::Items items) : items_(std::move(items)) {}

std::optional<Value> Loop::Get(const std::string& name) const {
  const auto index = static_cast<int64_t>(index_);
  const auto length = static_cast<int64_t>(items_.size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(length - index);
  if (name == "revindex0") return Value(length - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == length);
  if (name == "length") return Value(length);
  // Only recursive loops, which the parser refuses, get deeper.
  if (name == "depth") return Value(1);
  if (name == "depth0") return Value(0);
  if (name == "previtem") return index > 0 ? items_[index_ - 1] : Value::Undefined("there is no previous item");
  if (name == "nextitem") return index + 1 < length ? items_[index_ + 1] : Value::Undefined("there is no next item");
  if (name == "cycle") {
    return Value::Callable(name, [this](RenderContext&, const CallArguments& arguments) -> absl::StatusOr<Value> {
      if (arguments.positional.empty()) return absl::InvalidArgumentError("no items for cycling given");
      return arguments.positional[index_ % arguments.positional.size()];
    });
  }
  if (name == "changed") {
    return Value::Callable(name, [this](RenderContext&, const CallArguments& arguments) {
      Value now = Value::Sequence(SequenceKind::kTuple, arguments.positional);
      const bool changed = !last_changed_.has_value() || !(*last_changed_ == now);
      last_changed_ = std::move(now);
      return Value(changed);
    });
  }
  return std::nullopt;
}

}  // namespace nabla::jinja
