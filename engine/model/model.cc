#include "engine/model/model.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/cpu_decoder.h"
#include "engine/model/device.h"
#include "engine/model/vocabulary_projection.h"

namespace nabla {

absl::StatusOr<std::shared_ptr<const Model>> Model::Load(const std::string& folder, const std::string& dtype_name,
                                                         const std::string& device_name, int64_t max_length,
                                                         std::shared_ptr<ThreadTeam> team, WeightCopies copies) {
  if (team == nullptr) team = std::make_shared<ThreadTeam>(1);
  return GuardTorch([&]() -> absl::StatusOr<std::shared_ptr<const Model>> {
    NABLA_ASSIGN_OR_RETURN(ModelConfig config, ModelConfig::Load(folder));
    NABLA_ASSIGN_OR_RETURN(const torch::Device device, ParseDevice(device_name));
    NABLA_ASSIGN_OR_RETURN(const torch::ScalarType dtype, ParseDtype(dtype_name, config.dtype, device));
    if (max_length > config.max_position_embeddings) {
      return absl::InvalidArgumentError(absl::StrCat("max_length is ", max_length, "; ", folder,
                                                     "/config.json allows at most ", config.max_position_embeddings));
    }
    if (max_length == 0) max_length = std::min(config.max_position_embeddings, kDefaultMaxLength);
    NABLA_ASSIGN_OR_RETURN(ModelText text, LoadModelText(folder));
    NABLA_ASSIGN_OR_RETURN(auto files, OpenModelWeights(folder));
    Weights weights(folder, std::move(files), dtype, device);
    NABLA_ASSIGN_OR_RETURN(Transformer body,
                           Transformer::Load(config, weights, max_length, dtype, device, team, copies.for_gradients));

    std::shared_ptr<Model> model(new Model(config, std::move(text), team, std::move(body), dtype, device));
    if (config.sequence_classifier) {
      NABLA_ASSIGN_OR_RETURN(model->head_.weight, weights.Get("score.weight", {1, config.hidden_size}));
    } else {
      torch::Tensor head = model->body_.embedding();
      if (!config.tie_word_embeddings) {
        NABLA_ASSIGN_OR_RETURN(head, weights.Get("lm_head.weight", {config.vocabulary_size, config.hidden_size}));
      }
      // Rows that only pad the matrix have no token to stand for.
      model->head_.weight =
          head.narrow(0, 0, std::min<int64_t>(config.vocabulary_size, model->tokenizer().vocabulary_size()));
    }
    if (copies.int8_rollouts) {
      if (!device.is_cpu()) {
        return absl::InvalidArgumentError(
            absl::StrCat("rollout_weights: int8 needs an engine on the CPU, not on ", device.str(), "; leave it out"));
      }
      model->quantized_ = model->QuantizedCopy();
      model->body_.DecodeWith({model->quantized_, &model->quantized_->body()});
    }
    if (device.is_cpu()) {
      for (const torch::Tensor& piece : model->head_.weight.split(copies.head_piece)) {
        model->head_projections_.emplace_back(std::vector<Linear>{{piece}}, CopiesForGradients(copies.for_gradients));
      }
    }
    const std::filesystem::path path(folder);
    model->name_ = (path.has_filename() ? path : path.parent_path()).filename().string();
    model->max_length_ = max_length;
    return model;
  });
}

ModelInfo Model::info() const {
  return {.name = name_,
          .architecture = config_.architecture,
          .dtype = DtypeName(dtype_),
          .device = device_.str(),
          .parameters = config_.parameters(),
          .vocabulary_size = static_cast<int>(config_.vocabulary_size),
          .max_length = static_cast<int>(max_length_)};
}

bool Model::IsEndOfSequence(int32_t token) const {
  return std::find(config_.eos_token_ids.begin(), config_.eos_token_ids.end(), token) != config_.eos_token_ids.end();
}

torch::Tensor Model::Head(const torch::Tensor& hidden) const {
  if (quantized_ != nullptr) return quantized_->Head(hidden);
  return device_.is_cpu() ? LinearOnCpu(head_, hidden, *team_) : head_(hidden).to(torch::kFloat32);
}

std::shared_ptr<const QuantizedModel> Model::QuantizedCopy() const {
  return std::make_shared<const QuantizedModel>(body_.weights(), head_.weight, team_);
}

torch::Tensor Model::ProjectToVocabulary(const torch::Tensor& input_gradient) const {
  const int64_t tokens = std::min<int64_t>(config_.vocabulary_size, tokenizer().vocabulary_size());
  return nabla::ProjectToVocabulary(input_gradient, body_.embedding().narrow(0, 0, tokens), *team_);
}

}  // namespace nabla
