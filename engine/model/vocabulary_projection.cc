#include "engine/model/vocabulary_projection.h"

#include "engine/model/cpu_extend.h"
#include "engine/model/transformer.h"

namespace nabla {

torch::Tensor ProjectToVocabulary(const torch::Tensor& input_gradient, const torch::Tensor& embedding) {
  const Linear product{.weight = embedding};
  ThreadTeam alone(1);  // a row or a few: not worth handing over
  if (embedding.device().is_cpu()) return LinearOnCpu(product, input_gradient, alone);
  return product(input_gradient.to(embedding.device(), embedding.scalar_type())).to(torch::kFloat32);
}

}  // namespace nabla
