// What is told about a loaded model: in GetInfo, in logs and gauges.
#ifndef NABLA_ENGINE_BASE_MODEL_INFO_H_
#define NABLA_ENGINE_BASE_MODEL_INFO_H_

#include <cstdint>
#include <string>

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

}  // namespace nabla

#endif  // NABLA_ENGINE_BASE_MODEL_INFO_H_
