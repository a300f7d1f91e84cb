#include "bench/machine_limits.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "engine/model/cpu_projection.h"

namespace nabla {
namespace {

double SecondsOf(torch::Device device, const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  work();
  if (device.is_cuda()) torch::cuda::synchronize(device.index());
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The best of a few repetitions.
double LeastSeconds(torch::Device device, int repetitions, const std::function<void()>& work) {
  double least = SecondsOf(device, work);
  for (int i = 1; i < repetitions; ++i) least = std::min(least, SecondsOf(device, work));
  return least;
}

}  // namespace

MachineLimits MachineLimits::Measure(torch::ScalarType type, torch::Device device) {
  const torch::InferenceMode inference;
  MachineLimits limits;
  for (const auto& [rows, inputs, outputs] :
       {std::array<int64_t, 3>{1024, 1024, 1024}, {512, 1024, 4096}, {2048, 2048, 2048}, {8192, 8192, 8192}}) {
    if (rows > 2048 && device.is_cpu()) continue;
    const torch::Tensor x = torch::randn({rows, inputs}, device), w = torch::randn({outputs, inputs}, device);
    const Linear linear{.weight = w.to(type)};
    const torch::Tensor rows_of_type = x.to(type);
    std::vector<std::function<void()>> ways = {[&] { at::linear(rows_of_type, linear.weight); }};
    const CpuProjection packed({linear}, CpuProjection::Copies::kPacked);
    std::optional<ProjectionInput> input;
    if (device.is_cpu()) {
      input.emplace(x, type);
      ways.emplace_back([&] { packed.Forward(*input); });
    }
    for (const auto& way : ways) {
      way();
      const double seconds = LeastSeconds(device, 8, way);
      limits.operations_per_second = std::max(limits.operations_per_second, 2.0 * rows * inputs * outputs / seconds);
    }
  }
  const torch::Tensor numbers = torch::ones({int64_t{device.is_cpu() ? 64 : 1024} << 20}, device);
  volatile double sum = 0;
  const double seconds = LeastSeconds(device, 5, [&] { sum = numbers.sum().item<double>(); });
  limits.bytes_per_second = static_cast<double>(numbers.numel()) * 4.0 / seconds;
  return limits;
}

}  // namespace nabla
