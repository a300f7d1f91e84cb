// The variable "loop" of a for block: index, index0, revindex, revindex0, first, last, length, depth, depth0, previtem,
// nextitem, cycle(...) and changed(...).
//
// Not thread-safe. Owned by the RenderContext; the evaluator moves it on from item to item.
//
//   Loop* loop = context.Own(std::make_unique<Loop>(items));
//   for (size_t i = 0; i < items.size(); ++i) loop->MoveTo(i);
#ifndef NABLA_ENGINE_TEXT_JINJA_LOOP_H_
#define NABLA_ENGINE_TEXT_JINJA_LOOP_H_

#include <optional>
#include <string>

#include "engine/text/jinja/value.h"

namespace nabla::jinja {

class Loop : public Object {
 public:
  explicit Loop(Value::Items items);

  void MoveTo(size_t index) { index_ = index; }
  const Value::Items& items() const { return items_; }

  std::string TypeName() const override { return "LoopContext"; }
  std::optional<Value> Get(const std::string& name) const override;
  bool Set(const std::string&, Value) override { return false; }

 private:
  Value::Items items_;
  size_t index_ = 0;
  mutable std::optional<Value> last_changed_;
};

}  // namespace nabla::jinja

#endif  // NABLA_ENGINE_TEXT_JINJA_LOOP_H_
