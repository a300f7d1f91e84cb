#include "engine/model/draft_model.h"

#include <utility>

namespace nabla {

DraftModel::DraftModel(std::shared_ptr<const Model> model)
    : model_(std::move(model)),
      body_(CpuDecoder::Quantized(model_->body().weights(), copies_, model_->team())),
      head_(model_->head_weight(), copies_, model_->team()) {}

torch::Tensor DraftModel::Logits(absl::Span<const Slice> slices) const {
  return MultiplyOnCpu(head_.weight(), /*bias=*/{}, body_.Extend(slices, model_->team()), model_->team());
}

}  // namespace nabla
