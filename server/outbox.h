// Events of one request that its reader has not taken yet, in order. Bounded by the response: of the drafts only the
// newest is kept, neighbouring Committed events are merged, and the rest come at most once a position.
//
//   Outbox outbox;
//   outbox.Push(DraftEvent{…});
//   std::optional<Event> next = outbox.Pop();
//
// Not thread-safe; its owner holds a lock. Push and Pop take constant time and never block.
#ifndef NABLA_SERVER_OUTBOX_H_
#define NABLA_SERVER_OUTBOX_H_

#include <cstddef>
#include <list>
#include <optional>

#include "engine/base/event.h"

namespace nabla {

class Outbox {
 public:
  Outbox() = default;
  Outbox(const Outbox&) = delete;  // draft_ points into events_
  Outbox& operator=(const Outbox&) = delete;

  void Push(Event event);
  std::optional<Event> Pop();  // nothing: empty
  void Clear();
  size_t size() const { return events_.size(); }

 private:
  void DropDraft();

  std::list<Event> events_;
  std::list<Event>::iterator draft_ = events_.end();  // the one waiting draft, or end()
};

}  // namespace nabla

#endif  // NABLA_SERVER_OUTBOX_H_
