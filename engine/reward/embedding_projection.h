// Projects gradients at a reward model's input embeddings to its vocabulary, from the bytes of its embedding matrix
// alone: the half of a RewardModel that its client computes itself.
//
//   NABLA_ASSIGN_OR_RETURN(auto projection, EmbeddingProjection::Create(std::move(table), "cpu", batcher));
//   NABLA_ASSIGN_OR_RETURN(std::vector<float> rows, projection->Project(gradient, 1));   // [1, V]
//
// Gives the bits that LocalRewardModel::ProjectToVocabulary gives on the same kind of device. Immutable and
// thread-safe. Project blocks; the batcher, where there is one, runs the product between two passes and must outlive
// this.
#ifndef NABLA_ENGINE_REWARD_EMBEDDING_PROJECTION_H_
#define NABLA_ENGINE_REWARD_EMBEDDING_PROJECTION_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/reward/embedding_table.h"

namespace nabla {

class Batcher;

class EmbeddingProjection {
 public:
  // `device` as ParseDevice takes it; `batcher` may be null: products run on the calling thread. INVALID_ARGUMENT where
  // the table does not fit itself. On a CPU the table's bytes are used where they lie.
  static absl::StatusOr<std::unique_ptr<EmbeddingProjection>> Create(EmbeddingTable table, const std::string& device,
                                                                     Batcher* batcher);
  ~EmbeddingProjection();

  // [rows, H] → [rows, V].
  absl::StatusOr<std::vector<float>> Project(absl::Span<const float> input_gradient, int rows) const;

 private:
  struct Embedding;
  EmbeddingProjection(std::unique_ptr<const Embedding> embedding, Batcher* batcher);

  const std::unique_ptr<const Embedding> embedding_;
  Batcher* const batcher_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REWARD_EMBEDDING_PROJECTION_H_
