// What is told about loaded models: in GetInfo, in logs and gauges.
#ifndef NABLA_ENGINE_BASE_MODEL_INFO_H_
#define NABLA_ENGINE_BASE_MODEL_INFO_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nabla {

struct ModelInfo {
  std::string name;          // last part of the path
  std::string architecture;  // "LlamaForCausalLM"
  std::string dtype;
  std::string device;
  std::string reward_kind;  // of a reward model; else empty
  int64_t parameters = 0;
  int vocabulary_size = 0;
  int max_length = 0;
};

// The models of an engine.
struct ModelInfos {
  ModelInfo model;
  std::optional<ModelInfo> reward_model, draft_model;
  std::vector<ModelInfo> guard_models;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_BASE_MODEL_INFO_H_
