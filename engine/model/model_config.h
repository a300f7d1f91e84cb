// What config.json and generation_config.json of a Hugging Face model folder say, checked.
//
//   NABLA_ASSIGN_OR_RETURN(ModelConfig config, ModelConfig::Load("models/writer"));
//
// Supported: LlamaForCausalLM (with llama3 rope scaling), Qwen2ForCausalLM, Qwen3ForCausalLM and their
// …ForSequenceClassification with one label. Anything else is an error that names the file, the field, its value and
// what is supported.
#ifndef NABLA_ENGINE_MODEL_MODEL_CONFIG_H_
#define NABLA_ENGINE_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace nabla {

// Frequency-dependent position scaling of Llama 3.1 and later.
struct Llama3RopeScaling {
  double factor = 8;
  double low_frequency_factor = 1;
  double high_frequency_factor = 4;
  double original_max_position_embeddings = 8192;
};

struct ModelConfig {
  enum class Family { kLlama, kQwen2, kQwen3 };

  Family family = Family::kLlama;
  std::string architecture;          // as in config.json
  bool sequence_classifier = false;  // one-label head instead of a language-model head
  int64_t vocabulary_size = 0;       // rows of the embedding matrix
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  std::optional<Llama3RopeScaling> rope_scaling;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  // on q, k, v
  bool attention_output_bias = false;
  bool mlp_bias = false;
  std::string dtype = "float32";       // of the stored weights
  std::vector<int32_t> eos_token_ids;  // from generation_config.json where it is there, else config.json
  std::optional<int32_t> pad_token_id;

  static absl::StatusOr<ModelConfig> Load(const std::string& folder);

  int64_t parameters() const;  // weights of a model of this shape, norms included, biases not
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_MODEL_CONFIG_H_
