#include "engine/pool/admission_queue.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace nabla {

absl::Status AdmissionQueue::CheckRoom() const {
  if (size() < options_.max_requests) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the queue is full (", options_.max_requests, " requests); retry later"));
}

absl::StatusOr<uint64_t> AdmissionQueue::Push(Entry entry, absl::Time now) {
  NABLA_RETURN_IF_ERROR(CheckRoom());
  if (!entries_.empty() && entry.tokens > options_.max_tokens - tokens_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full (", options_.max_tokens, " estimated tokens); retry later"));
  }
  const uint64_t id = ++last_id_;
  const int priority = static_cast<int>(entry.priority);
  const absl::Time raised_at = priority + 1 < kPriorities ? now + options_.priority_ageing : absl::InfiniteFuture();
  tokens_ += entry.tokens;
  turns_[priority].Push(entry.client, id, entry.tokens);
  if (entry.deadline != absl::InfiniteFuture()) deadlines_.emplace(entry.deadline, id);
  if (raised_at != absl::InfiniteFuture()) raises_.emplace(raised_at, id);
  entries_.emplace(id, Waiting{std::move(entry), priority, raised_at});
  return id;
}

std::optional<uint64_t> AdmissionQueue::Front(absl::Time now) {
  RaisePriorities(now);
  for (int priority = kPriorities - 1; priority >= 0; --priority) {
    if (std::optional<uint64_t> id = turns_[priority].Front()) return id;
  }
  return std::nullopt;
}

void AdmissionQueue::Start(uint64_t id) {
  const auto waiting = entries_.find(id);
  turns_[waiting->second.priority].Start(waiting->second.entry.client, id);
  Erase(waiting);
}

bool AdmissionQueue::Remove(uint64_t id) {
  const auto waiting = entries_.find(id);
  if (waiting == entries_.end()) return false;
  turns_[waiting->second.priority].Remove(waiting->second.entry.client, id);
  Erase(waiting);
  return true;
}

std::vector<uint64_t> AdmissionQueue::TakeExpired(absl::Time now) {
  std::vector<uint64_t> ids;
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    ids.push_back(deadlines_.begin()->second);
    Remove(ids.back());
  }
  return ids;
}

std::vector<uint64_t> AdmissionQueue::TakeAll() {
  std::vector<uint64_t> ids;
  for (const auto& [id, waiting] : entries_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const uint64_t id : ids) Remove(id);
  return ids;
}

absl::Time AdmissionQueue::NextChange() const {
  absl::Time next = absl::InfiniteFuture();
  for (const Times* times : {&deadlines_, &raises_}) {
    if (!times->empty()) next = std::min(next, times->begin()->first);
  }
  return next;
}

void AdmissionQueue::RaisePriorities(absl::Time now) {
  while (!raises_.empty() && raises_.begin()->first <= now) {
    const uint64_t id = raises_.begin()->second;
    raises_.erase(raises_.begin());
    Waiting& waiting = entries_.at(id);
    turns_[waiting.priority].Remove(waiting.entry.client, id);
    ++waiting.priority;
    turns_[waiting.priority].Push(waiting.entry.client, id, waiting.entry.tokens);
    if (waiting.priority + 1 < kPriorities) {
      waiting.raised_at += options_.priority_ageing;
      raises_.emplace(waiting.raised_at, id);
    } else {
      waiting.raised_at = absl::InfiniteFuture();
    }
  }
}

void AdmissionQueue::Erase(Waits::iterator waiting) {
  const auto& [id, state] = *waiting;
  tokens_ -= state.entry.tokens;
  deadlines_.erase({state.entry.deadline, id});
  raises_.erase({state.raised_at, id});
  entries_.erase(waiting);
}

}  // namespace nabla
