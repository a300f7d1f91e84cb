// A reward service with a FakeRewardModel, on a port of this machine.
//
//   RewardReplica replica;
//   auto remote = RemoteRewardModel::Connect({.client = {.channel = {.address = replica.address()}}}, NoProjection);
//   replica.Stop();
//
// Not thread-safe; the calls it serves are.
#ifndef NABLA_TESTS_SERVER_REWARD_REPLICA_H_
#define NABLA_TESTS_SERVER_REWARD_REPLICA_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "nabla/v1/reward.grpc.pb.h"
#include "server/listener.h"
#include "server/remote_reward_model.h"
#include "server/reward_metrics.h"
#include "server/reward_service.h"
#include "tests/server/fake_reward_model.h"

namespace nabla {

inline absl::StatusOr<RemoteRewardModel::Projection> NoProjection(EmbeddingTable /*table*/) {
  return [](absl::Span<const float>, int) -> absl::StatusOr<std::vector<float>> {
    return absl::UnimplementedError("no projection");
  };
}

struct RewardReplicaOptions {
  RewardKind kind = RewardKind::kClassifier;
  std::string model_fingerprint = "00000000000000aa";
  EmbeddingTable embedding = FakeRewardModel::Embedding();
  ListenerOptions listener;
  RewardServiceOptions service;
};

class RewardReplica {
 public:
  explicit RewardReplica(RewardReplicaOptions options = {})
      : model_(options.kind), metrics_("test"), service_(Versioned(options.service), &metrics_) {
    service_.Serve({.model = &model_, .fingerprint = options.model_fingerprint, .embedding = options.embedding});
    absl::StatusOr<std::unique_ptr<Listener>> listener = Listener::Create(options.listener, {&service_});
    EXPECT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
    listener_->SetServing(v1::RewardModel::service_full_name(), true);
  }
  ~RewardReplica() {
    model_.Release();
    Stop();
  }

  // As if the process had been killed: its connections break.
  void Stop() {
    listener_->Shutdown(absl::InfinitePast());
    service_.AwaitIdle(absl::InfiniteFuture());
  }

  std::string address() const { return absl::StrCat("127.0.0.1:", listener_->port()); }
  int port() const { return listener_->port(); }
  FakeRewardModel& model() { return model_; }
  RewardService& service() { return service_; }
  RewardMetrics& metrics() { return metrics_; }
  Listener& listener() { return *listener_; }

 private:
  static RewardServiceOptions Versioned(RewardServiceOptions options) {
    options.version = "test";
    return options;
  }

  FakeRewardModel model_;
  RewardMetrics metrics_;
  RewardService service_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace nabla

#endif  // NABLA_TESTS_SERVER_REWARD_REPLICA_H_
