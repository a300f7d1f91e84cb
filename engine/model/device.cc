#include "engine/model/device.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace nabla {

absl::StatusOr<torch::Device> ParseDevice(const std::string& name) {
  if (name == "cpu") return torch::Device(torch::kCPU);
  if (name == "auto") return torch::cuda::is_available() ? torch::Device(torch::kCUDA, 0) : torch::Device(torch::kCPU);
  int index = 0;
  const bool cuda =
      name == "cuda" || (absl::StartsWith(name, "cuda:") && absl::SimpleAtoi(name.substr(5), &index) && index >= 0);
  if (!cuda) return absl::InvalidArgumentError(absl::StrCat("device is \"", name, "\"; expected cpu, cuda:N or auto"));
  const int devices = torch::cuda::is_available() ? static_cast<int>(torch::cuda::device_count()) : 0;
  if (index >= devices) {
    return absl::InvalidArgumentError(absl::StrCat("device is \"", name, "\" but this machine and libtorch offer ",
                                                   devices, " CUDA devices; use cpu"));
  }
  return torch::Device(torch::kCUDA, static_cast<torch::DeviceIndex>(index));
}

absl::StatusOr<torch::ScalarType> ParseDtype(const std::string& name, const std::string& stored, torch::Device device) {
  if (name == "float32") return torch::kFloat32;
  if (name == "bfloat16") return torch::kBFloat16;
  if (name != "auto")
    return absl::InvalidArgumentError(absl::StrCat("dtype is \"", name, "\"; expected float32, bfloat16 or auto"));
  const bool half = stored == "bfloat16" || (stored == "float16" && device.is_cuda());
  return half ? torch::kBFloat16 : torch::kFloat32;
}

std::string DtypeName(torch::ScalarType dtype) { return dtype == torch::kBFloat16 ? "bfloat16" : "float32"; }

}  // namespace nabla
