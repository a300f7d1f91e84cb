// What a model on a CPU keeps beside its weights, and in which pieces.
#ifndef NABLA_ENGINE_MODEL_WEIGHT_COPIES_H_
#define NABLA_ENGINE_MODEL_WEIGHT_COPIES_H_

#include <cstdint>

namespace nabla {

struct WeightCopies {
  // Tokens are decoded with int8 copies (QuantizedModel), keys, values and hidden states included. Gradients are taken
  // with the model's own weights all the same, at what decoding has left of a rollout's tokens, or by a pass of their
  // own behind the keys and values that it has left.
  bool int8_rollouts = false;
  // Gradients keep copies where they pay (CpuProjection), up to twice the weights' own memory.
  bool for_gradients = true;
  // Tokens of the vocabulary whose head products are one piece of a gradient's work: about a millisecond for SmolLM2,
  // for whoever waits for its end.
  int64_t head_piece = 4096;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_WEIGHT_COPIES_H_
