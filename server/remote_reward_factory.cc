#include "server/remote_reward_factory.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/reward/embedding_projection.h"
#include "server/remote_reward_model.h"

namespace nabla {

RewardModelFactory RemoteRewardFactory(const RemoteRewardOptions& options, std::function<void(absl::StatusCode)> on_rpc,
                                       LogSink log) {
  RemoteRewardModelOptions remote;
  remote.client.channel.address = options.address;
  remote.client.channel.tls_ca_file = options.tls_ca_file;
  remote.client.channel.tls_certificate_file = options.tls_certificate_file;
  remote.client.channel.tls_key_file = options.tls_key_file;
  remote.client.channel.tls_server_name = options.tls_server_name;
  remote.client.channel.max_attempts = options.max_attempts;
  remote.bfloat16_gradients = options.bfloat16_gradients;
  remote.client.token_file = options.token_file;
  remote.client.connect_timeout = options.connect_timeout;
  remote.client.call_timeout = options.call_timeout;
  remote.client.on_rpc = std::move(on_rpc);
  RemoteRewardModelOptions again = remote;  // a request waits, and the service has just answered
  again.client.connect_timeout = std::min(options.connect_timeout, options.call_timeout);
  return [remote, again, log = std::move(log)](Batcher* batcher, const std::string& device,
                                               const StopToken* stop) -> absl::StatusOr<std::unique_ptr<RewardModel>> {
    const auto make_projection = [&](EmbeddingTable table) -> absl::StatusOr<RemoteRewardModel::Projection> {
      NABLA_ASSIGN_OR_RETURN(const std::shared_ptr<const EmbeddingProjection> projection,
                             EmbeddingProjection::Create(std::move(table), device, batcher));
      return [projection](absl::Span<const float> gradient, int rows) { return projection->Project(gradient, rows); };
    };
    if (stop == nullptr) return RemoteRewardModel::Connect(remote, make_projection);
    NABLA_ASSIGN_OR_RETURN(std::unique_ptr<RemoteRewardModel> model,
                           RemoteRewardModel::Connect(again, make_projection, stop));
    log(LogEvent(LogLevel::kWarning, "reward_model_replaced")
            .Add("address", again.client.channel.address)
            .Add("model", model->name())
            .Add("kind", model->info().reward_kind)
            .Add("device", device));
    return model;
  };
}

}  // namespace nabla
