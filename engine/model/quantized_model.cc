#include "engine/model/quantized_model.h"

#include <utility>

namespace nabla {

QuantizedModel::QuantizedModel(const DecoderWeights& weights, const torch::Tensor& head,
                               std::shared_ptr<ThreadTeam> team)
    : team_(std::move(team)), body_(CpuDecoder::Quantized(weights, copies_, *team_)), head_(head, copies_, *team_) {}

torch::Tensor QuantizedModel::Head(const torch::Tensor& hidden) const {
  return MultiplyOnCpu(head_.weight(), /*bias=*/{}, hidden, *team_);
}

}  // namespace nabla
