// Transformer::Extend on a CPU, by the row-independent kernels of engine/kernels. Includes torch for the weights only.
//
// Rows of different sequences share nothing but weights. Small models therefore give every thread some of the
// sequences, from the embedding to the final norm; larger ones, whose weights each thread would have to fetch from
// memory by itself, divide each product instead. Which way is chosen does not change a number.
#ifndef NABLA_ENGINE_MODEL_CPU_EXTEND_H_
#define NABLA_ENGINE_MODEL_CPU_EXTEND_H_

#include <torch/torch.h>

#include <cstdint>

#include "absl/types/span.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/transformer.h"

namespace nabla {

torch::Tensor ExtendOnCpu(const DecoderWeights& weights, absl::Span<const Slice> slices, ThreadTeam& team);

// linear(x) without autograd: [… , in] → float32 […, out].
torch::Tensor LinearOnCpu(const Linear& linear, const torch::Tensor& x, ThreadTeam& team);

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_CPU_EXTEND_H_
