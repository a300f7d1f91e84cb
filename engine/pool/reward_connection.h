// An engine's reward model in another process, which may be started anew with another model: connects anew then, and
// requests that run keep what they began with.
//
//   NABLA_ASSIGN_OR_RETURN(auto connection, RewardConnection::Create(connect));
//   std::shared_ptr<const Reward> reward = connection->current();
//   if (reward->model->replaced()) { NABLA_ASSIGN_OR_RETURN(reward, connection->Renew(*reward, stop)); }
//
// Thread-safe. One request connects, on its own thread; others that want the same wait for what comes of it.
#ifndef NABLA_ENGINE_POOL_REWARD_CONNECTION_H_
#define NABLA_ENGINE_POOL_REWARD_CONNECTION_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/stop_token.h"
#include "engine/pool/reward.h"

namespace nabla {

class RewardConnection {
 public:
  // Blocks until the other process has answered, or until `stop`, if given, says stop: with its status then.
  using Connect = std::function<absl::StatusOr<std::shared_ptr<const Reward>>(const StopToken* stop)>;

  // Connects for the first time.
  static absl::StatusOr<std::unique_ptr<RewardConnection>> Create(Connect connect);

  std::shared_ptr<const Reward> current() const;

  // What takes the place of `lost`. Errors: those of Connect; the status of `stop`.
  absl::StatusOr<std::shared_ptr<const Reward>> Renew(const Reward& lost, const StopToken& stop);

 private:
  RewardConnection(Connect connect, std::shared_ptr<const Reward> first)
      : connect_(std::move(connect)), current_(std::move(first)) {}

  const Connect connect_;
  mutable std::mutex mu_;
  std::condition_variable ended_;  // an attempt
  std::shared_ptr<const Reward> current_ ABSL_GUARDED_BY(mu_);
  bool connecting_ ABSL_GUARDED_BY(mu_) = false;
  int failures_ ABSL_GUARDED_BY(mu_) = 0;  // attempts that did not end for their own request's sake
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
};

}  // namespace nabla

#endif  // NABLA_ENGINE_POOL_REWARD_CONNECTION_H_
