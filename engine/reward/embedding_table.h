// A model's input embeddings as plain bytes: what crosses the network so that a client can project gradients itself.
//
//   const EmbeddingTable table = reward_model->Embedding().value();
//   stream << table.bytes;   // vocabulary_size rows of hidden_size numbers, little-endian
//
// Immutable; copies share the bytes.
#ifndef NABLA_ENGINE_REWARD_EMBEDDING_TABLE_H_
#define NABLA_ENGINE_REWARD_EMBEDDING_TABLE_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace nabla {

struct EmbeddingTable {
  std::string dtype;                  // "float32" or "bfloat16"
  int vocabulary_size = 0;            // V
  int hidden_size = 0;                // H
  absl::string_view bytes;            // [V, H]
  std::shared_ptr<const void> owner;  // keeps `bytes` alive
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REWARD_EMBEDDING_TABLE_H_
