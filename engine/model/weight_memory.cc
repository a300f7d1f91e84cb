#include "engine/model/weight_memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>

namespace nabla {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;
// What nobody touches of a piece takes no memory.
constexpr int64_t kLeastPiece = int64_t{64} << 20;

int64_t RoundUp(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

std::shared_ptr<char> NewPiece(int64_t bytes) {
  std::shared_ptr<char> piece(static_cast<char*>(std::aligned_alloc(kHugePage, bytes)), std::free);
  TORCH_CHECK(piece != nullptr, "no memory for ", bytes, " bytes of weights");
#if defined(__linux__)
  madvise(piece.get(), bytes, MADV_HUGEPAGE);  // small pages do where it fails
#endif
  return piece;
}

}  // namespace

torch::Tensor WeightMemory::Empty(at::IntArrayRef shape, torch::ScalarType type) {
  int64_t bytes = static_cast<int64_t>(torch::elementSize(type));
  for (const int64_t size : shape) bytes *= size;
  bytes = RoundUp(bytes, kCacheLine);
  if (used_ + bytes > size_) {
    size_ = RoundUp(std::max(bytes, kLeastPiece), kHugePage);
    piece_ = NewPiece(size_);
    used_ = 0;
  }
  char* const data = piece_.get() + used_;
  used_ += bytes;
  return torch::from_blob(
      data, shape, [piece = piece_](void*) {}, torch::TensorOptions(type));
}

}  // namespace nabla
