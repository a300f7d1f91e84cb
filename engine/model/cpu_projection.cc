#include "engine/model/cpu_projection.h"

#include "engine/model/cpu_tensors.h"

namespace nabla {
namespace {

// out = a b, or out += a b. `out` is float32.
void MultiplyInto(const torch::Tensor& a, const torch::Tensor& b, bool add, torch::Tensor out) {
  if (a.scalar_type() == torch::kFloat32) {
    add ? at::addmm_out(out, out, a, b) : at::mm_out(out, a, b);
  } else {
    add ? out.add_(torch::mm(a, b)) : out.copy_(torch::mm(a, b));
  }
}

}  // namespace

ProjectionInput::ProjectionInput(const torch::Tensor& x, torch::ScalarType weights) {
  if (kernels::MultipliesByTiles(TypeOf(weights), x.size(1))) {
    tiles_.emplace(x.data_ptr<float>(), x.size(0), x.size(1), TypeOf(weights));
  } else {
    x_ = x.to(weights);
  }
}

CpuProjection::CpuProjection(const Linear& linear) : linear_(linear), bias_(Widened(linear.bias)) {}

void CpuProjection::Forward(const ProjectionInput& x, const torch::Tensor& out) const {
  const torch::Tensor& weight = linear_.weight;
  if (!x.tiles_.has_value()) {
    MultiplyInto(x.x_, weight.t(), /*add=*/false, out);
    if (linear_.bias.defined()) out.add_(linear_.bias);
    return;
  }
  kernels::Linear(MatrixOf(weight), *x.tiles_, bias_.empty() ? nullptr : bias_.data(), out.data_ptr<float>(),
                  out.size(1), 0, out.size(1));
}

void CpuProjection::Backward(const ProjectionInput& gradient, const torch::Tensor& at_x, bool add) const {
  const torch::Tensor& weight = linear_.weight;
  if (!gradient.tiles_.has_value()) return MultiplyInto(gradient.x_, weight, add, at_x);
  std::call_once(transposed_->once, [&] { transposed_->weight = weight.t().contiguous(); });
  const torch::Tensor out = add ? torch::empty_like(at_x) : at_x;
  kernels::Linear(MatrixOf(transposed_->weight), *gradient.tiles_, nullptr, out.data_ptr<float>(), out.size(1), 0,
                  out.size(1));
  if (add) at_x.add_(out);
}

}  // namespace nabla
