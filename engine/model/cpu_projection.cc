#include "engine/model/cpu_projection.h"

#include "engine/model/cpu_tensors.h"

namespace nabla {

ProjectionInput::ProjectionInput(const torch::Tensor& x, torch::ScalarType weights)
    : x_(x), input_(x.data_ptr<float>(), x.size(0), x.size(1), TypeOf(weights)) {}

CpuProjection::CpuProjection(const Linear& linear) : linear_(linear), bias_(Widened(linear.bias)) {}

void CpuProjection::Forward(const ProjectionInput& x, const torch::Tensor& out) const {
  const torch::Tensor& weight = linear_.weight;
  if (!x.input_.in_tiles()) {
    out.copy_(at::linear(x.x_.to(weight.scalar_type()), weight, linear_.bias));
    return;
  }
  kernels::Linear(MatrixOf(weight), x.input_, bias_.empty() ? nullptr : bias_.data(), out.data_ptr<float>(),
                  out.size(1), 0, out.size(1));
}

void CpuProjection::Backward(const ProjectionInput& gradient, const torch::Tensor& at_x, bool add) const {
  const torch::Tensor& weight = linear_.weight;
  if (!gradient.input_.in_tiles()) {
    const torch::Tensor product = torch::mm(gradient.x_.to(weight.scalar_type()), weight);
    add ? at_x.add_(product) : at_x.copy_(product);
    return;
  }
  std::call_once(transposed_->once, [&] { transposed_->weight = weight.t().contiguous(); });
  const torch::Tensor out = add ? torch::empty_like(at_x) : at_x;
  kernels::Linear(MatrixOf(transposed_->weight), gradient.input_, nullptr, out.data_ptr<float>(), out.size(1), 0,
                  out.size(1));
  if (add) at_x.add_(out);
}

}  // namespace nabla
