#include "engine/model/vocabulary_projection.h"

#include "engine/model/cpu_decoder.h"
#include "engine/model/transformer.h"

namespace nabla {

torch::Tensor ProjectToVocabulary(const torch::Tensor& input_gradient, const torch::Tensor& embedding,
                                  ThreadTeam& team) {
  const Linear product{.weight = embedding};
  if (embedding.device().is_cpu()) return LinearOnCpu(product, input_gradient, team);
  return product(input_gradient.to(embedding.device(), embedding.scalar_type())).to(torch::kFloat32);
}

}  // namespace nabla
