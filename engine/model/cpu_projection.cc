#include "engine/model/cpu_projection.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <string>

#include "engine/model/cpu_tensors.h"

namespace nabla {
namespace {

constexpr int64_t kLeastPacked = 1 << 16;  // numbers in a matrix that is worth packing

bool MklIsAtItsBest() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel") != 0;
#else
  return false;
#endif
}

// libtorch has these as operators only. They are what torch.compile makes of a linear layer with frozen weights.
torch::Tensor Pack(const torch::Tensor& weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_reorder_linear_weight", "")
                             .typed<torch::Tensor(const torch::Tensor&, std::optional<int64_t>)>();
  return op.call(weight, std::nullopt);
}

torch::Tensor MultiplyPacked(const torch::Tensor& x, const torch::Tensor& packed, const torch::Tensor& bias) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
          .typed<torch::Tensor(const torch::Tensor&, const torch::Tensor&, const std::optional<torch::Tensor>&,
                               std::string_view, torch::List<std::optional<at::Scalar>>,
                               std::optional<std::string_view>)>();
  return op.call(x, packed, bias.defined() ? std::optional<torch::Tensor>(bias) : std::nullopt, "none",
                 torch::List<std::optional<at::Scalar>>(), std::nullopt);
}

}  // namespace

ProjectionInput::ProjectionInput(const torch::Tensor& x, torch::ScalarType weights) {
  if (kernels::MultipliesByTiles(TypeOf(weights), x.size(1))) {
    tiles_.emplace(x.data_ptr<float>(), x.size(0), x.size(1), TypeOf(weights));
  } else {
    x_ = x.to(weights);
  }
}

CpuProjection::CpuProjection(const Linear& linear, bool packs)
    : linear_(linear), bias_(Widened(linear.bias)), packs_(packs) {}

bool CpuProjection::PackingPays(const torch::Tensor& weight) {
  const bool plain_is_best = weight.scalar_type() == torch::kFloat32 && MklIsAtItsBest();
  return weight.numel() >= kLeastPacked && !plain_is_best && at::globalContext().hasMKLDNN();
}

torch::Tensor CpuProjection::Forward(const ProjectionInput& x) const {
  const torch::Tensor& weight = linear_.weight;
  if (x.tiles_.has_value()) {
    const torch::Tensor out = torch::empty({x.tiles_->rows(), weight.size(0)}, torch::kFloat32);
    kernels::Linear(MatrixOf(weight), *x.tiles_, bias_.empty() ? nullptr : bias_.data(), out.data_ptr<float>(),
                    out.size(1), 0, out.size(1));
    return out;
  }
  if (packs_) {
    std::call_once(forward_->once, [&] { forward_->weight = Pack(weight); });
    return MultiplyPacked(x.x_, forward_->weight, linear_.bias).to(torch::kFloat32);
  }
  const torch::Tensor out = torch::mm(x.x_, weight.t()).to(torch::kFloat32);
  return linear_.bias.defined() ? out.add_(linear_.bias) : out;
}

torch::Tensor CpuProjection::Backward(const ProjectionInput& gradient) const {
  const torch::Tensor& weight = linear_.weight;
  if (gradient.tiles_.has_value()) {
    std::call_once(backward_->once, [&] { backward_->weight = weight.t().contiguous(); });
    const torch::Tensor at_x = torch::empty({gradient.tiles_->rows(), weight.size(1)}, torch::kFloat32);
    kernels::Linear(MatrixOf(backward_->weight), *gradient.tiles_, nullptr, at_x.data_ptr<float>(), at_x.size(1), 0,
                    at_x.size(1));
    return at_x;
  }
  if (packs_) {
    std::call_once(backward_->once, [&] { backward_->weight = Pack(weight.t().contiguous()); });
    return MultiplyPacked(gradient.x_, backward_->weight, {}).to(torch::kFloat32);
  }
  return torch::mm(gradient.x_, weight).to(torch::kFloat32);
}

}  // namespace nabla
