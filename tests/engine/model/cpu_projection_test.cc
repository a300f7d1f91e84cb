#include "engine/model/cpu_projection.h"

#include <gtest/gtest.h>

namespace nabla {
namespace {

// [rows, inputs, outputs]; tiles take inputs by 32, on the way back outputs.
class CpuProjectionTest : public testing::TestWithParam<std::array<int64_t, 3>> {};

TEST_P(CpuProjectionTest, IsLibtorchsLinearThereAndBack) {
  const torch::NoGradGuard no_gradient;
  torch::manual_seed(3);
  const auto [rows, inputs, outputs] = GetParam();
  for (const torch::ScalarType type : {torch::kFloat32, torch::kBFloat16}) {
    const Linear linear{.weight = torch::randn({outputs, inputs}).to(type), .bias = torch::randn({outputs}).to(type)};
    const CpuProjection projection(linear);
    // What both multiply: rounded numbers, in double precision.
    const auto exact = [type](const torch::Tensor& numbers) { return numbers.to(type).to(torch::kFloat64); };
    const torch::Tensor x = torch::randn({rows, inputs}), gradient = torch::randn({rows, outputs});

    const torch::Tensor out = torch::empty({rows, outputs});
    projection.Forward(ProjectionInput(x, type), out);
    // Libtorch's products end in bfloat16, three digits.
    const double tolerance = type == torch::kFloat32 ? 1e-5 : 8e-3;
    EXPECT_TRUE(torch::allclose(out.to(torch::kFloat64), at::linear(exact(x), exact(linear.weight), exact(linear.bias)),
                                tolerance, tolerance * std::sqrt(inputs)));

    const torch::Tensor at_x = torch::ones({rows, inputs});
    const torch::Tensor wanted = torch::mm(exact(gradient), exact(linear.weight));
    const auto near = [&](const torch::Tensor& expected) {
      return torch::allclose(at_x.to(torch::kFloat64), expected, tolerance, tolerance * std::sqrt(outputs));
    };
    projection.Backward(ProjectionInput(gradient, type), at_x, /*add=*/true);
    EXPECT_TRUE(near(wanted + 1));
    projection.Backward(ProjectionInput(gradient, type), at_x, /*add=*/false);
    EXPECT_TRUE(near(wanted));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CpuProjectionTest,
                         testing::Values(std::array<int64_t, 3>{1, 32, 64}, std::array<int64_t, 3>{50, 64, 96},
                                         std::array<int64_t, 3>{7, 20, 13}, std::array<int64_t, 3>{33, 96, 40}));

}  // namespace
}  // namespace nabla
