// Where a model computes and in which type. Includes torch: for engine/model, decode, refine and reward only.
//
//   NABLA_ASSIGN_OR_RETURN(torch::Device device, ParseDevice("auto"));
#ifndef NABLA_ENGINE_MODEL_DEVICE_H_
#define NABLA_ENGINE_MODEL_DEVICE_H_

#include <torch/torch.h>

#include <string>

#include "absl/status/statusor.h"

namespace nabla {

// "cpu", "cuda", "cuda:N", or "auto": CUDA where there is one.
absl::StatusOr<torch::Device> ParseDevice(const std::string& name);

// "float32", "bfloat16", or "auto": the type the weights are stored in, where float16 counts as bfloat16 on CUDA and as
// float32 on a CPU.
absl::StatusOr<torch::ScalarType> ParseDtype(const std::string& name, const std::string& stored, torch::Device device);

std::string DtypeName(torch::ScalarType dtype);

// Runs code that calls torch and turns its exceptions into a status: out of memory → RESOURCE_EXHAUSTED, the rest →
// INTERNAL. `function` returns absl::Status or absl::StatusOr.
template <typename Function>
auto GuardTorch(Function&& function) -> decltype(function()) {
  try {
    return function();
  } catch (const c10::OutOfMemoryError& error) {
    return absl::ResourceExhaustedError(std::string("out of device memory: ") + error.what_without_backtrace());
  } catch (const c10::Error& error) {
    return absl::InternalError(error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_DEVICE_H_
