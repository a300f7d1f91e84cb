#include "server/outbox.h"

#include <iterator>
#include <utility>

namespace nabla {
namespace {

// Appends `next` to `event` if both are Committed.
bool Merge(Event* event, Event* next) {
  auto* first = std::get_if<CommittedEvent>(event);
  auto* second = std::get_if<CommittedEvent>(next);
  if (first == nullptr || second == nullptr) return false;
  first->token_ids.insert(first->token_ids.end(), second->token_ids.begin(), second->token_ids.end());
  first->text += second->text;
  return true;
}

}  // namespace

void Outbox::Push(Event event) {
  const bool is_draft = std::holds_alternative<DraftEvent>(event);
  if (is_draft) DropDraft();
  if (!events_.empty() && Merge(&events_.back(), &event)) return;
  events_.push_back(std::move(event));
  if (is_draft) draft_ = std::prev(events_.end());
}

std::optional<Event> Outbox::Pop() {
  if (events_.empty()) return std::nullopt;
  if (draft_ == events_.begin()) draft_ = events_.end();
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void Outbox::Clear() {
  events_.clear();
  draft_ = events_.end();
}

void Outbox::DropDraft() {
  if (draft_ == events_.end()) return;
  auto next = events_.erase(draft_);
  draft_ = events_.end();
  // The draft may have stood between two Committed events.
  if (next == events_.begin() || next == events_.end()) return;
  if (Merge(&*std::prev(next), &*next)) events_.erase(next);
}

}  // namespace nabla
