// E·g: what a gradient at the input embeddings says about every token (algorithm.md, equivalence 1). One place for the
// product, so that whoever holds the embedding, the model or a client of its server, computes the same bits. Includes
// torch.
#ifndef NABLA_ENGINE_MODEL_VOCABULARY_PROJECTION_H_
#define NABLA_ENGINE_MODEL_VOCABULARY_PROJECTION_H_

#include <torch/torch.h>

#include "engine/kernels/thread_team.h"

namespace nabla {

// input_gradient [n, H] in float32, embedding [V, H]; computed on the embedding's device. On a CPU a row's products
// depend neither on the other rows nor on where the embedding lies in memory. Float32 [n, V]. Without autograd.
torch::Tensor ProjectToVocabulary(const torch::Tensor& input_gradient, const torch::Tensor& embedding,
                                  ThreadTeam& team);

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_VOCABULARY_PROJECTION_H_
