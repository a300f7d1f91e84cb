#include "engine/model/cpu_projection.h"

#include <gtest/gtest.h>

namespace nabla {
namespace {

// [rows, inputs, outputs]; tiles take inputs by 32, on the way back outputs.
class CpuProjectionShapesTest : public testing::TestWithParam<std::array<int64_t, 3>> {};

TEST_P(CpuProjectionShapesTest, IsLibtorchsLinearThereAndBack) {
  const torch::NoGradGuard no_gradient;
  torch::manual_seed(3);
  const auto [rows, inputs, outputs] = GetParam();
  for (const torch::ScalarType type : {torch::kFloat32, torch::kBFloat16}) {
    // Two side by side, of which the second has half the outputs.
    const torch::Tensor weight = torch::randn({outputs, inputs}).to(type), bias = torch::randn({outputs}).to(type);
    const int64_t first = outputs - outputs / 2;
    const std::vector<Linear> linears = {{weight.narrow(0, 0, first), bias.narrow(0, 0, first)},
                                         {weight.narrow(0, first, outputs / 2), bias.narrow(0, first, outputs / 2)}};
    // What both multiply: rounded numbers, in double precision.
    const auto exact = [type](const torch::Tensor& numbers) { return numbers.to(type).to(torch::kFloat64); };
    const torch::Tensor x = torch::randn({rows, inputs}), gradient = torch::randn({rows, outputs});

    // Libtorch's products end in bfloat16, three digits.
    const double tolerance = type == torch::kFloat32 ? 1e-5 : 8e-3;
    const auto near = [&](const torch::Tensor& value, const torch::Tensor& expected, int64_t terms) {
      return torch::allclose(value.to(torch::kFloat64), expected, tolerance, tolerance * std::sqrt(terms));
    };
    for (const bool copies : {true, false}) {
      const CpuProjection projection(linears, CopiesForGradients(copies));
      EXPECT_TRUE(
          near(projection.Forward(ProjectionInput(x, type)), at::linear(exact(x), exact(weight), exact(bias)), inputs));
      EXPECT_TRUE(near(projection.Backward(ProjectionInput(gradient, type)), torch::mm(exact(gradient), exact(weight)),
                       outputs));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CpuProjectionShapesTest,
                         testing::Values(std::array<int64_t, 3>{1, 32, 64}, std::array<int64_t, 3>{50, 64, 96},
                                         std::array<int64_t, 3>{7, 20, 13}, std::array<int64_t, 3>{33, 96, 40}));

TEST(CpuProjectionTest, PackedWeightsGiveTheSame) {
  const torch::NoGradGuard no_gradient;
  torch::manual_seed(4);
  for (const torch::ScalarType type : {torch::kFloat32, torch::kBFloat16}) {
    const Linear linear{.weight = torch::randn({517, 514}).to(type), .bias = torch::randn({517}).to(type)};
    using Copies = CpuProjection::Copies;
    const CpuProjection plain({linear, linear}, Copies::kNone), packed({linear, linear}, Copies::kPacked);
    const CpuProjection prepared({linear, linear}, Copies::kPacked);
    prepared.PrepareForward(), prepared.PrepareBackward();
    const auto near = [type](const torch::Tensor& raw, const torch::Tensor& raw_expected) {
      const torch::Tensor value = raw.to(torch::kFloat32), expected = raw_expected.to(torch::kFloat32);
      return type == torch::kFloat32 ? torch::allclose(value, expected, 1e-5, 1e-3)
                                     : torch::allclose(value, expected, 8e-3, 0.2);  // both end in bfloat16
    };
    for (const int64_t rows : {1, 70}) {  // the second time with what the first has packed
      const torch::Tensor x = torch::randn({rows, 514}), gradient = torch::randn({rows, 2 * 517});
      const torch::Tensor out = packed.Forward(ProjectionInput(x, type));
      const torch::Tensor at_x = packed.Backward(ProjectionInput(gradient, type));
      EXPECT_TRUE(near(out, plain.Forward(ProjectionInput(x, type))));
      EXPECT_TRUE(near(at_x, plain.Backward(ProjectionInput(gradient, type))));
      EXPECT_TRUE(torch::equal(out, prepared.Forward(ProjectionInput(x, type))));
      EXPECT_TRUE(torch::equal(at_x, prepared.Backward(ProjectionInput(gradient, type))));
    }
  }
}

}  // namespace
}  // namespace nabla
