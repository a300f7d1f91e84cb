// Who waits and who goes next: bounded by requests and by tokens, by priority, with turns between clients.
//
//   AdmissionQueue queue({.max_requests = 256});
//   absl::StatusOr<uint64_t> id = queue.Push({.client = "alice", .tokens = 2048}, now);
//   if (std::optional<uint64_t> next = queue.Front(now); next && fits(*next)) queue.Start(*next);
//
// High goes before normal before low. Within a priority clients take turns by tokens (fair_queue.h), and one client's
// requests go in the order of submission. A priority counts one higher for every `priority_ageing` that the request has
// waited: under constant load from above, low requests wait for up to two of these and then share the places with the
// rest, instead of starving.
//
// Bounds: a request that would exceed one of them is refused, except that an empty queue takes any single request,
// since one with more tokens than the bound could never run otherwise.
//
// Not thread-safe: the owner holds a lock. Nothing blocks, and time comes from the caller. All operations take
// logarithmic time.
#ifndef NABLA_ENGINE_POOL_ADMISSION_QUEUE_H_
#define NABLA_ENGINE_POOL_ADMISSION_QUEUE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/request.h"
#include "engine/pool/fair_queue.h"

namespace nabla {

struct AdmissionQueueOptions {
  int max_requests = 256;
  int64_t max_tokens = 1 << 20;
  absl::Duration priority_ageing = absl::Seconds(30);  // waiting this long counts as one priority more
};

class AdmissionQueue {
 public:
  struct Entry {
    Priority priority = Priority::kNormal;
    std::string client;
    int64_t tokens = 0;  // ≥ 0; what the request may cost
    absl::Time deadline = absl::InfiniteFuture();
  };

  explicit AdmissionQueue(const AdmissionQueueOptions& options) : options_(options) {}

  // RESOURCE_EXHAUSTED where not even a request without tokens would be taken.
  absl::Status CheckRoom() const;

  // RESOURCE_EXHAUSTED, or the entry's id. Ids rise and are never used again.
  absl::StatusOr<uint64_t> Push(Entry entry, absl::Time now);

  // Who goes next; none where nobody waits. Expired entries count until TakeExpired.
  std::optional<uint64_t> Front(absl::Time now);

  // Takes out a waiting entry that starts now, and charges its client.
  void Start(uint64_t id);

  // Takes out an entry that will not start. False where it does not wait here (any more).
  bool Remove(uint64_t id);

  // Takes out those whose deadline has passed, the earliest deadline first; or all.
  std::vector<uint64_t> TakeExpired(absl::Time now);
  std::vector<uint64_t> TakeAll();

  // When time alone will change something next: a deadline passes or a priority rises. InfiniteFuture: never.
  absl::Time NextChange() const;

  int size() const { return static_cast<int>(entries_.size()); }
  int64_t tokens() const { return tokens_; }

 private:
  static constexpr int kPriorities = 3;

  struct Waiting {
    Entry entry;
    int priority;          // as it counts now
    absl::Time raised_at;  // when it counts one more; InfiniteFuture: never
  };
  using Waits = std::unordered_map<uint64_t, Waiting>;
  using Times = std::set<std::pair<absl::Time, uint64_t>>;

  void RaisePriorities(absl::Time now);
  void Erase(Waits::iterator waiting);  // all but its turn

  const AdmissionQueueOptions options_;
  uint64_t last_id_ = 0;
  int64_t tokens_ = 0;
  Waits entries_;
  std::array<FairQueue, kPriorities> turns_;  // by priority
  Times deadlines_;                           // finite ones
  Times raises_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_POOL_ADMISSION_QUEUE_H_
