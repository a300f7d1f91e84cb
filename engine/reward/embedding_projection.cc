#include "engine/reward/embedding_projection.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/decode/batcher.h"
#include "engine/model/device.h"
#include "engine/model/vocabulary_projection.h"

namespace nabla {

struct EmbeddingProjection::Embedding {
  torch::Tensor weight;  // [V, H]
};

EmbeddingProjection::EmbeddingProjection(std::unique_ptr<const Embedding> embedding, Batcher* batcher)
    : embedding_(std::move(embedding)), batcher_(batcher) {}
EmbeddingProjection::~EmbeddingProjection() = default;

absl::StatusOr<std::unique_ptr<EmbeddingProjection>> EmbeddingProjection::Create(EmbeddingTable table,
                                                                                 const std::string& device_name,
                                                                                 Batcher* batcher) {
  if (table.dtype != "float32" && table.dtype != "bfloat16") {
    return absl::InvalidArgumentError(
        absl::StrCat("embedding: dtype is \"", table.dtype, "\"; expected float32 or bfloat16"));
  }
  const torch::ScalarType dtype = table.dtype == "float32" ? torch::kFloat32 : torch::kBFloat16;
  const size_t expected = static_cast<size_t>(table.vocabulary_size) * table.hidden_size * torch::elementSize(dtype);
  if (table.bytes.size() != expected) {
    return absl::InvalidArgumentError(absl::StrCat("embedding: has ", table.bytes.size(), " bytes; ",
                                                   table.vocabulary_size, " tokens of ", table.hidden_size, " ",
                                                   table.dtype, " numbers are ", expected));
  }
  return GuardTorch([&]() -> absl::StatusOr<std::unique_ptr<EmbeddingProjection>> {
    NABLA_ASSIGN_OR_RETURN(const torch::Device device, ParseDevice(device_name));
    auto embedding = std::make_unique<Embedding>();
    embedding->weight = torch::from_blob(
                            const_cast<char*>(table.bytes.data()), {table.vocabulary_size, table.hidden_size},
                            [owner = table.owner](void*) {}, torch::TensorOptions(dtype))
                            .to(device);
    return std::unique_ptr<EmbeddingProjection>(new EmbeddingProjection(std::move(embedding), batcher));
  });
}

absl::StatusOr<std::vector<float>> EmbeddingProjection::Project(absl::Span<const float> input_gradient,
                                                                int rows) const {
  std::vector<float> result;
  const auto project = [&] {
    return GuardTorch([&]() -> absl::Status {
      const torch::InferenceMode inference;
      const torch::Tensor gradient = torch::from_blob(const_cast<float*>(input_gradient.data()),
                                                      {rows, embedding_->weight.size(1)}, torch::kFloat32);
      ThreadTeam alone(1);  // a row or a few
      const torch::Tensor projected = ProjectToVocabulary(gradient, embedding_->weight, alone).cpu().contiguous();
      result.assign(projected.data_ptr<float>(), projected.data_ptr<float>() + projected.numel());
      return absl::OkStatus();
    });
  };
  NABLA_RETURN_IF_ERROR(batcher_ == nullptr ? project() : batcher_->RunAlone(project));
  return result;
}

}  // namespace nabla
