// Bytes that several owners share.
//
//   MemoryBudget budget(1 << 30);
//   if (budget.TryTake(bytes)) … budget.Give(bytes);
//
// Thread-safe.
#ifndef NABLA_ENGINE_MODEL_MEMORY_BUDGET_H_
#define NABLA_ENGINE_MODEL_MEMORY_BUDGET_H_

#include <atomic>
#include <cstdint>

namespace nabla {

class MemoryBudget {
 public:
  explicit MemoryBudget(int64_t bytes) : left_(bytes) {}

  bool TryTake(int64_t bytes) {
    int64_t left = left_.load();
    while (left >= bytes) {
      if (left_.compare_exchange_weak(left, left - bytes)) return true;
    }
    return false;
  }
  void Give(int64_t bytes) { left_ += bytes; }
  int64_t left() const { return left_; }

 private:
  std::atomic<int64_t> left_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_MEMORY_BUDGET_H_
