// Finds a model's tensors in its mapped files, checked for shape, in the type and on the device asked for.
//
//   NABLA_ASSIGN_OR_RETURN(torch::Tensor weight, weights.Get("model.norm.weight", {256}));
//
// Where type and device agree with the file the tensor is a view of the mapping (which it keeps alive): nothing is
// copied, and all processes that map the file share its pages. But weights of up to 64 MiB are copied on a CPU if
// they do not begin at a cache line. Not thread-safe. Includes torch: for engine/model only.
#ifndef NABLA_ENGINE_MODEL_WEIGHTS_H_
#define NABLA_ENGINE_MODEL_WEIGHTS_H_

#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/safetensors.h"
#include "engine/model/weight_memory.h"

namespace nabla {

class Weights {
 public:
  Weights(std::string folder, std::vector<std::shared_ptr<const SafetensorsFile>> files, torch::ScalarType dtype,
          torch::Device device);

  absl::StatusOr<torch::Tensor> Get(const std::string& name, const std::vector<int64_t>& shape);
  bool Has(const std::string& name) const;

 private:
  std::string folder_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  torch::ScalarType dtype_;
  torch::Device device_;
  bool small_;           // all of them together
  WeightMemory copies_;  // on a CPU, of what is of another type in the files, or lies badly there
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_WEIGHTS_H_
