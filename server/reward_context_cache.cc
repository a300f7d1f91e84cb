#include "server/reward_context_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

// Lengths keep the parts apart.
std::string KeyOf(absl::Span<const ChatMessage> messages, int max_response_tokens) {
  std::string key = absl::StrCat(max_response_tokens);
  for (const ChatMessage& message : messages) {
    absl::StrAppend(&key, " ", message.role.size(), " ", message.content.size(), " ", message.role, message.content);
  }
  return key;
}

}  // namespace

RewardContextCache::Lease::Lease(RewardContextCache* cache, std::unique_ptr<Entry> entry, bool opened)
    : cache_(cache), entry_(std::move(entry)), work_before_(opened ? ModelWork() : entry_->context->work()) {}

RewardContextCache::Lease::~Lease() {
  entry_->context->set_stop(nullptr);
  if (keep_) cache_->Return(std::move(entry_));
}

ModelWork RewardContextCache::Lease::work() const {
  const ModelWork& now = entry_->context->work();
  return {.forward_passes = now.forward_passes - work_before_.forward_passes,
          .forward_tokens = now.forward_tokens - work_before_.forward_tokens,
          .backward_passes = now.backward_passes - work_before_.backward_passes,
          .backward_tokens = now.backward_tokens - work_before_.backward_tokens};
}

absl::StatusOr<std::unique_ptr<RewardContextCache::Lease>> RewardContextCache::Acquire(
    absl::Span<const ChatMessage> messages, int max_response_tokens, const StopToken* stop) {
  std::string key = KeyOf(messages, max_response_tokens);
  if (std::unique_ptr<Entry> entry = TakeIdle(key)) {
    entry->context->set_stop(stop);
    return std::make_unique<Lease>(this, std::move(entry), /*opened=*/false);
  }
  auto entry = std::make_unique<Entry>();
  entry->key = std::move(key);
  absl::StatusOr<std::unique_ptr<RewardContext>> context = model_->Open(messages, max_response_tokens, stop);
  while (absl::IsResourceExhausted(context.status()) && EvictOldest()) {
    context = model_->Open(messages, max_response_tokens, stop);
  }
  NABLA_RETURN_IF_ERROR(context.status());
  entry->context = *std::move(context);
  return std::make_unique<Lease>(this, std::move(entry), /*opened=*/true);
}

std::unique_ptr<RewardContextCache::Entry> RewardContextCache::TakeIdle(const std::string& key) {
  Entries evicted;
  const std::lock_guard<std::mutex> lock(mu_);
  Trim(&evicted);
  const auto found = std::find_if(idle_.begin(), idle_.end(), [&](const auto& entry) { return entry->key == key; });
  if (found == idle_.end()) return nullptr;
  std::unique_ptr<Entry> entry = std::move(*found);
  idle_.erase(found);
  return entry;
}

bool RewardContextCache::EvictOldest() {
  std::unique_ptr<Entry> oldest;
  const std::lock_guard<std::mutex> lock(mu_);
  if (idle_.empty()) return false;
  oldest = std::move(idle_.back());
  idle_.pop_back();
  return true;
}

void RewardContextCache::EvictIdle() {
  Entries evicted;
  const std::lock_guard<std::mutex> lock(mu_);
  evicted.swap(idle_);
}

int RewardContextCache::idle() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return static_cast<int>(idle_.size());
}

void RewardContextCache::Return(std::unique_ptr<Entry> entry) {
  entry->last_used = options_.now();
  Entries evicted;
  const std::lock_guard<std::mutex> lock(mu_);
  idle_.push_front(std::move(entry));
  Trim(&evicted);
}

void RewardContextCache::Trim(Entries* evicted) {
  const absl::Time oldest = options_.now() - options_.max_idle_time;
  while (!idle_.empty() && (static_cast<int>(idle_.size()) > options_.max_idle || idle_.back()->last_used < oldest)) {
    evicted->splice(evicted->begin(), idle_, std::prev(idle_.end()));
  }
}

}  // namespace nabla
