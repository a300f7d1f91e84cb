#include "engine/model/model_config.h"

#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/json_file.h"

namespace nabla {
namespace {

using Json = nlohmann::json;

absl::Status FieldError(const std::string& file, const std::string& field, const Json& value,
                        const std::string& expected) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", field, " is ", value.dump(), "; expected ", expected));
}

absl::StatusOr<int64_t> PositiveInteger(const Json& json, const std::string& file, const char* field) {
  const auto it = json.find(field);
  if (it == json.end())
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", field, " is missing; expected a positive integer"));
  if (!it->is_number_integer() || it->get<int64_t>() <= 0) return FieldError(file, field, *it, "a positive integer");
  return it->get<int64_t>();
}

absl::StatusOr<double> Number(const Json& json, const std::string& file, const char* field, double otherwise) {
  const auto it = json.find(field);
  if (it == json.end() || it->is_null()) return otherwise;
  if (!it->is_number()) return FieldError(file, field, *it, "a number");
  return it->get<double>();
}

absl::StatusOr<bool> Flag(const Json& json, const std::string& file, const char* field, bool otherwise) {
  const auto it = json.find(field);
  if (it == json.end() || it->is_null()) return otherwise;
  if (!it->is_boolean()) return FieldError(file, field, *it, "true or false");
  return it->get<bool>();
}

// An id, a list of ids, or null.
absl::StatusOr<std::vector<int32_t>> TokenIds(const Json& json, const std::string& file, const char* field) {
  std::vector<int32_t> ids;
  const auto it = json.find(field);
  if (it == json.end() || it->is_null()) return ids;
  const Json list = it->is_array() ? *it : Json::array({*it});
  for (const Json& id : list) {
    if (!id.is_number_integer()) return FieldError(file, field, *it, "a token id or a list of them");
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

absl::Status ReadArchitecture(const Json& json, const std::string& file, ModelConfig& config) {
  const auto it = json.find("architectures");
  if (it == json.end() || !it->is_array() || it->size() != 1 || !it->at(0).is_string()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": architectures is missing or not a list of one name"));
  }
  struct Known {
    const char* stem;
    ModelConfig::Family family;
  };
  config.architecture = it->at(0).get<std::string>();
  for (const Known& known : {Known{"Llama", ModelConfig::Family::kLlama}, Known{"Qwen2", ModelConfig::Family::kQwen2},
                             Known{"Qwen3", ModelConfig::Family::kQwen3}}) {
    config.family = known.family;
    config.sequence_classifier = config.architecture == absl::StrCat(known.stem, "ForSequenceClassification");
    if (config.sequence_classifier || config.architecture == absl::StrCat(known.stem, "ForCausalLM"))
      return absl::OkStatus();
  }
  return FieldError(file, "architectures", *it,
                    "LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM or one of their …ForSequenceClassification");
}

// Transformers 5 writes rope_parameters; earlier versions rope_theta and rope_scaling beside it.
absl::Status ReadRope(const Json& json, const std::string& file, ModelConfig& config) {
  const bool nested = json.contains("rope_parameters") && json["rope_parameters"].is_object();
  const char* field = nested ? "rope_parameters" : "rope_scaling";
  const Json scaling = json.contains(field) && json[field].is_object() ? json[field] : Json::object();
  NABLA_ASSIGN_OR_RETURN(config.rope_theta, Number(nested ? scaling : json, file, "rope_theta", 10000.0));
  const Json type = scaling.contains("rope_type") ? scaling["rope_type"] : scaling.value("type", Json("default"));
  if (type == "default") return absl::OkStatus();
  if (type != "llama3") return FieldError(file, absl::StrCat(field, ".rope_type"), type, "\"default\" or \"llama3\"");
  Llama3RopeScaling llama3;
  NABLA_ASSIGN_OR_RETURN(llama3.factor, Number(scaling, file, "factor", llama3.factor));
  NABLA_ASSIGN_OR_RETURN(llama3.low_frequency_factor,
                         Number(scaling, file, "low_freq_factor", llama3.low_frequency_factor));
  NABLA_ASSIGN_OR_RETURN(llama3.high_frequency_factor,
                         Number(scaling, file, "high_freq_factor", llama3.high_frequency_factor));
  NABLA_ASSIGN_OR_RETURN(
      llama3.original_max_position_embeddings,
      Number(scaling, file, "original_max_position_embeddings", llama3.original_max_position_embeddings));
  config.rope_scaling = llama3;
  return absl::OkStatus();
}

// Features whose silent neglect would give wrong numbers.
absl::Status RefuseUnsupported(const Json& json, const std::string& file) {
  const Json activation = json.value("hidden_act", Json("silu"));
  if (activation != "silu") return FieldError(file, "hidden_act", activation, "\"silu\"");
  if (json.contains("quantization_config") && !json["quantization_config"].is_null()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": quantization_config is set; expected unquantised float32, bfloat16 or float16 weights"));
  }
  NABLA_ASSIGN_OR_RETURN(const bool sliding, Flag(json, file, "use_sliding_window", false));
  if (sliding) return FieldError(file, "use_sliding_window", true, "false (sliding-window attention is not supported)");
  NABLA_ASSIGN_OR_RETURN(const double rotary, Number(json, file, "partial_rotary_factor", 1.0));
  if (rotary != 1.0) return FieldError(file, "partial_rotary_factor", rotary, "1");
  return absl::OkStatus();
}

absl::Status CheckOneLabel(const Json& json, const std::string& file) {
  size_t labels = 2;  // the default of transformers
  if (json.contains("id2label") && json["id2label"].is_object()) labels = json["id2label"].size();
  if (json.contains("num_labels") && json["num_labels"].is_number_integer()) labels = json["num_labels"].get<size_t>();
  if (labels == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file, ": the classifier has ", labels, " labels; expected 1 (a reward model)"));
}

}  // namespace

int64_t ModelConfig::parameters() const {
  const int64_t attention = hidden_size * head_dim * 2 * (num_heads + num_key_value_heads);
  const int64_t layer = attention + 3 * hidden_size * intermediate_size + 2 * hidden_size;
  const int64_t untied = !tie_word_embeddings && !sequence_classifier;
  const int64_t head = sequence_classifier ? hidden_size : 0;
  return num_layers * layer + (1 + untied) * vocabulary_size * hidden_size + hidden_size + head;
}

absl::StatusOr<ModelConfig> ModelConfig::Load(const std::string& folder) {
  const std::string file = folder + "/config.json";
  NABLA_ASSIGN_OR_RETURN(const Json json, ReadJsonObject(file));
  ModelConfig config;
  NABLA_RETURN_IF_ERROR(ReadArchitecture(json, file, config));
  NABLA_RETURN_IF_ERROR(RefuseUnsupported(json, file));
  if (config.sequence_classifier) NABLA_RETURN_IF_ERROR(CheckOneLabel(json, file));

  NABLA_ASSIGN_OR_RETURN(config.vocabulary_size, PositiveInteger(json, file, "vocab_size"));
  NABLA_ASSIGN_OR_RETURN(config.hidden_size, PositiveInteger(json, file, "hidden_size"));
  NABLA_ASSIGN_OR_RETURN(config.intermediate_size, PositiveInteger(json, file, "intermediate_size"));
  NABLA_ASSIGN_OR_RETURN(config.num_layers, PositiveInteger(json, file, "num_hidden_layers"));
  NABLA_ASSIGN_OR_RETURN(config.num_heads, PositiveInteger(json, file, "num_attention_heads"));
  config.num_key_value_heads = config.num_heads;
  if (json.contains("num_key_value_heads") && !json["num_key_value_heads"].is_null()) {
    NABLA_ASSIGN_OR_RETURN(config.num_key_value_heads, PositiveInteger(json, file, "num_key_value_heads"));
  }
  if (config.num_heads % config.num_key_value_heads != 0) {
    return FieldError(file, "num_key_value_heads", config.num_key_value_heads,
                      absl::StrCat("a divisor of num_attention_heads ", config.num_heads));
  }
  if (json.contains("head_dim") && !json["head_dim"].is_null()) {
    NABLA_ASSIGN_OR_RETURN(config.head_dim, PositiveInteger(json, file, "head_dim"));
  } else if (config.hidden_size % config.num_heads == 0) {
    config.head_dim = config.hidden_size / config.num_heads;
  } else {
    return FieldError(file, "hidden_size", config.hidden_size,
                      absl::StrCat("a multiple of num_attention_heads ", config.num_heads));
  }
  if (config.head_dim % 2 != 0) return FieldError(file, "head_dim", config.head_dim, "an even number");
  NABLA_ASSIGN_OR_RETURN(config.max_position_embeddings, PositiveInteger(json, file, "max_position_embeddings"));
  NABLA_ASSIGN_OR_RETURN(config.rms_norm_eps, Number(json, file, "rms_norm_eps", 1e-6));
  NABLA_RETURN_IF_ERROR(ReadRope(json, file, config));
  NABLA_ASSIGN_OR_RETURN(config.tie_word_embeddings, Flag(json, file, "tie_word_embeddings", false));
  NABLA_ASSIGN_OR_RETURN(config.attention_bias, Flag(json, file, "attention_bias", false));
  config.attention_output_bias = config.attention_bias;
  if (config.family == Family::kQwen2) config.attention_bias = true, config.attention_output_bias = false;
  NABLA_ASSIGN_OR_RETURN(config.mlp_bias, Flag(json, file, "mlp_bias", false));
  const char* dtype_field = json.contains("dtype") ? "dtype" : "torch_dtype";  // the name before transformers 5
  const Json dtype = json.value(dtype_field, Json("float32"));
  if (!dtype.is_null() && !dtype.is_string()) return FieldError(file, dtype_field, dtype, "the name of a type");
  if (dtype.is_string()) config.dtype = dtype.get<std::string>();

  NABLA_ASSIGN_OR_RETURN(config.eos_token_ids, TokenIds(json, file, "eos_token_id"));
  NABLA_ASSIGN_OR_RETURN(const std::vector<int32_t> pad, TokenIds(json, file, "pad_token_id"));
  if (!pad.empty()) config.pad_token_id = pad.front();
  const std::string generation_file = folder + "/generation_config.json";
  if (std::filesystem::exists(generation_file)) {
    NABLA_ASSIGN_OR_RETURN(const Json generation, ReadJsonObject(generation_file));
    NABLA_ASSIGN_OR_RETURN(std::vector<int32_t> eos, TokenIds(generation, generation_file, "eos_token_id"));
    if (!eos.empty()) config.eos_token_ids = std::move(eos);
  }
  return config;
}

}  // namespace nabla
