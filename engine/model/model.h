// A loaded model: text side, decoder stack and head. One class serves language models (head: V rows) and classifiers
// (head: one row).
//
//   NABLA_ASSIGN_OR_RETURN(auto model, Model::Load("models/writer", "auto", "auto", /*max_length=*/0));
//   torch::Tensor logits = model->Head(hidden);   // [n, H] → float32 [n, V]
//
// Immutable and thread-safe, shared by all workers. Includes torch.
#ifndef NABLA_ENGINE_MODEL_MODEL_H_
#define NABLA_ENGINE_MODEL_MODEL_H_

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/model_info.h"
#include "engine/model/cpu_projection.h"
#include "engine/model/model_config.h"
#include "engine/model/model_folder.h"
#include "engine/model/quantized_model.h"
#include "engine/model/transformer.h"
#include "engine/model/weight_copies.h"

namespace nabla {

class Model {
 public:
  // `dtype` and `device` as ParseDtype and ParseDevice take them; `max_length` 0: the model's own limit, at most
  // kDefaultMaxLength.
  // On a CPU, inference is divided among `team`; null: the calling thread alone.
  // `copies`: int8_rollouts needs a CPU; the others matter on one only.
  static absl::StatusOr<std::shared_ptr<const Model>> Load(const std::string& folder, const std::string& dtype,
                                                           const std::string& device, int64_t max_length,
                                                           std::shared_ptr<ThreadTeam> team = nullptr,
                                                           WeightCopies copies = {});
  static constexpr int64_t kDefaultMaxLength = 8192;

  const ModelConfig& config() const { return config_; }
  const Tokenizer& tokenizer() const { return *text_.tokenizer; }
  const std::shared_ptr<const Tokenizer>& shared_tokenizer() const { return text_.tokenizer; }
  const ChatTemplate* chat_template() const { return text_.chat_template.get(); }  // null where the folder has none
  const Transformer& body() const { return body_; }
  torch::ScalarType dtype() const { return dtype_; }
  torch::Device device() const { return device_; }
  const std::string& name() const { return name_; }
  int64_t max_length() const { return max_length_; }  // prompt and response tokens of one sequence
  // Tokens that can be produced: known to the tokenizer and to the model.
  int64_t vocabulary_size() const { return head_.weight.size(0); }
  bool IsEndOfSequence(int32_t token) const;
  ModelInfo info() const;

  // Head products in the model's type (or int8, see WeightCopies), returned in float32: [n, H] → [n, V] (language
  // model) or [n, 1] (classifier). On a CPU a row's products do not depend on the other rows. Without autograd.
  torch::Tensor Head(const torch::Tensor& hidden) const;
  ThreadTeam& team() const { return *team_; }                        // shares the work of a CPU
  const torch::Tensor& head_weight() const { return head_.weight; }  // [V or 1, H]
  // Body and head again with int8 weights; of a CPU.
  std::shared_ptr<const QuantizedModel> QuantizedCopy() const;
  // The head there and back, for gradients on a CPU, WeightCopies::head_piece tokens after another; a row's products
  // may depend on how many rows there are.
  const std::vector<CpuProjection>& head_projections() const { return head_projections_; }
  // Products of gradients at the input embeddings [n, H] with the embeddings of the producible tokens: float32 [n, V].
  torch::Tensor ProjectToVocabulary(const torch::Tensor& input_gradient) const;

 private:
  Model(ModelConfig config, ModelText text, std::shared_ptr<ThreadTeam> team, Transformer body, torch::ScalarType dtype,
        torch::Device device)
      : config_(std::move(config)),
        text_(std::move(text)),
        team_(std::move(team)),
        body_(std::move(body)),
        dtype_(dtype),
        device_(device) {}

  ModelConfig config_;
  ModelText text_;
  std::shared_ptr<ThreadTeam> team_;
  Transformer body_;
  Linear head_;
  std::shared_ptr<const QuantizedModel> quantized_;  // what body_ and Head decode with; null: the weights as they are
  std::vector<CpuProjection> head_projections_;      // on a CPU
  torch::ScalarType dtype_;
  torch::Device device_;
  std::string name_;
  int64_t max_length_ = 0;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_MODEL_H_
