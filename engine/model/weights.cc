#include "engine/model/weights.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/model/weight_memory.h"

namespace nabla {
namespace {

absl::StatusOr<torch::ScalarType> TorchDtype(const std::string& dtype) {
  if (dtype == "F32") return torch::kFloat32;
  if (dtype == "BF16") return torch::kBFloat16;
  if (dtype == "F16") return torch::kFloat16;
  return absl::InvalidArgumentError(absl::StrCat("dtype is ", dtype, "; expected F32, BF16 or F16"));
}

// What kernels load fastest (AlignedNumbers). Files say nothing of it: their headers end anywhere.
constexpr uintptr_t kCacheLine = 64;

}  // namespace

Weights::Weights(std::string folder, std::vector<std::shared_ptr<const SafetensorsFile>> files, torch::ScalarType dtype,
                 torch::Device device)
    : folder_(std::move(folder)), files_(std::move(files)), dtype_(dtype), device_(device) {
  int64_t bytes = 0;
  for (const auto& file : files_) {
    for (const auto& [name, entry] : file->entries()) bytes += static_cast<int64_t>(entry.bytes);
  }
  small_ = bytes <= kMostCachedBytes;
}

bool Weights::Has(const std::string& name) const {
  for (const auto& file : files_) {
    if (file->Find(name) != nullptr) return true;
  }
  return false;
}

absl::StatusOr<torch::Tensor> Weights::Get(const std::string& name, const std::vector<int64_t>& shape) {
  for (const auto& file : files_) {
    const SafetensorsFile::Entry* entry = file->Find(name);
    if (entry == nullptr) continue;
    if (entry->shape != shape) {
      return absl::InvalidArgumentError(absl::StrCat(file->path(), ": tensor ", name, " has shape [",
                                                     absl::StrJoin(entry->shape, ", "), "]; config.json asks for [",
                                                     absl::StrJoin(shape, ", "), "]"));
    }
    absl::StatusOr<torch::ScalarType> dtype = TorchDtype(entry->dtype);
    if (!dtype.ok())
      return absl::InvalidArgumentError(absl::StrCat(file->path(), ": tensor ", name, ": ", dtype.status().message()));
    torch::Tensor mapped = torch::from_blob(
        const_cast<void*>(entry->data), shape, [file](void*) {}, torch::TensorOptions(*dtype));
    const auto address = reinterpret_cast<uintptr_t>(entry->data);
    const bool aligned = address % mapped.element_size() == 0;
    if (!aligned) mapped = mapped.clone();
    if (!device_.is_cpu()) return mapped.to(device_, dtype_);
    const bool copies = mapped.scalar_type() != dtype_ || (small_ && address % kCacheLine != 0);
    return copies ? copies_.Empty(shape, dtype_).copy_(mapped) : mapped;
  }
  return absl::InvalidArgumentError(absl::StrCat(folder_, ": tensor ", name, " is missing from its safetensors files"));
}

}  // namespace nabla
