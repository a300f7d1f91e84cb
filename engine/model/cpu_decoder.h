// Transformer::Extend on a CPU, by the row-independent kernels of engine/kernels. Includes torch for the weights only.
//
// Each product, and the attention of each layer, is divided among the team's threads, so that every core streams its
// part of the weights and no more. (Giving each thread some of the sequences instead saves handing over, but was slower
// even for the embedded models: each core then streams all weights.) How it is divided does not change a number.
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
