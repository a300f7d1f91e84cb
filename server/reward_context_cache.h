// Open reward contexts between the calls of a request. The protocol is stateless; what a context keeps, the prompt and
// the response scored last, makes the next call of the same conversation cheaper and never different.
//
//   RewardContextCache contexts(&reward_model, {});
//   NABLA_ASSIGN_OR_RETURN(auto lease, contexts.Acquire(messages, /*max_response_tokens=*/64, stop));
//   NABLA_ASSIGN_OR_RETURN(double reward, lease->context().Score(response));
//
// A context is used by one lease at a time: two calls of one conversation open two. Idle ones are bounded in number and
// age, and give way where the model's key/value memory runs out. Thread-safe; Acquire blocks where it has to open a
// context. The model outlives the cache, the cache its leases.
#ifndef NABLA_SERVER_REWARD_CONTEXT_CACHE_H_
#define NABLA_SERVER_REWARD_CONTEXT_CACHE_H_

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/base/event.h"
#include "engine/base/stop_token.h"
#include "engine/reward/reward_model.h"
#include "engine/text/chat_message.h"

namespace nabla {

class RewardContextCache {
 public:
  struct Options {
    int max_idle = 64;                                 // contexts that no call is using
    absl::Duration max_idle_time = absl::Seconds(60);  // since a call used one
    std::function<absl::Time()> now = absl::Now;
  };

  // What is kept of the gradient computed last: its log-probability rows may yet be asked for.
  struct GradientRows {
    std::vector<int32_t> response;
    int first = -1;  // -1: none
    bool scored = false;
    double reward = 0;
    decltype(RewardGradient::log_probs) log_probs;
  };

 private:
  struct Entry {
    std::string key;
    std::unique_ptr<RewardContext> context;
    GradientRows rows;
    absl::Time last_used;
  };

 public:
  // The use of a context by one call; returns it to the cache at its end.
  class Lease {
   public:
    Lease(RewardContextCache* cache, std::unique_ptr<Entry> entry, bool opened);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    RewardContext& context() { return *entry_->context; }
    GradientRows& rows() { return entry_->rows; }
    // What was run since Acquire, opening included.
    ModelWork work() const;
    // The context does not come back to the cache: a call on it has failed.
    void Discard() { keep_ = false; }

   private:
    RewardContextCache* const cache_;
    std::unique_ptr<Entry> entry_;
    const ModelWork work_before_;
    bool keep_ = true;
  };

  RewardContextCache(const RewardModel* model, Options options) : model_(model), options_(std::move(options)) {}

  // Errors are those of RewardModel::Open; of RESOURCE_EXHAUSTED only what is left once no context is idle. `stop`, if
  // given, ends what the context does for this lease, and outlives it.
  absl::StatusOr<std::unique_ptr<Lease>> Acquire(absl::Span<const ChatMessage> messages, int max_response_tokens,
                                                 const StopToken* stop = nullptr);

  // Closes what no call is using.
  void EvictIdle();

  int idle() const;

 private:
  using Entries = std::list<std::unique_ptr<Entry>>;

  std::unique_ptr<Entry> TakeIdle(const std::string& key);
  bool EvictOldest();
  void Return(std::unique_ptr<Entry> entry);
  // Moves what is too old or too much to `evicted`, to be destroyed without the lock.
  void Trim(Entries* evicted) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const RewardModel* const model_;
  const Options options_;
  mutable std::mutex mu_;
  Entries idle_ ABSL_GUARDED_BY(mu_);  // used latest first
};

}  // namespace nabla

#endif  // NABLA_SERVER_REWARD_CONTEXT_CACHE_H_
