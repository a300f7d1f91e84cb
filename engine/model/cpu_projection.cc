#include "engine/model/cpu_projection.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <string>
#include <utility>

#include "engine/base/thread_priority.h"
#include "engine/kernels/elementwise.h"
#include "engine/kernels/linear_dot.h"
#include "engine/model/cpu_tensors.h"

namespace nabla {
namespace {

constexpr int64_t kLeastPacked = 1 << 16;  // numbers in a matrix that is worth packing

// In which a library multiplies numbers by weights of a type. Where a CPU has no instruction for bfloat16, libraries
// widen numbers again at every use (Intel Ice Lake: 66 GFLOP/s, where float32 reaches 296).
torch::ScalarType LibraryTypeFor(torch::ScalarType weights) {
  return kernels::HasPairProducts() ? weights : torch::kFloat32;
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
  torch::Tensor out = op.call(x, packed, bias.defined() ? std::optional<torch::Tensor>(bias) : std::nullopt, "none",
                              torch::List<std::optional<at::Scalar>>(), std::nullopt);
  GiveWay();
  return out;
}

}  // namespace

torch::ScalarType ProjectionInput::TypeFor(torch::ScalarType weights, int64_t inputs) {
  return kernels::MultipliesByTiles(TypeOf(weights), inputs) ? torch::kFloat32 : LibraryTypeFor(weights);
}

ProjectionInput::ProjectionInput(const torch::Tensor& x, torch::ScalarType weights) {
  const torch::ScalarType type = TypeFor(weights, x.size(1));
  if (kernels::MultipliesByTiles(TypeOf(weights), x.size(1))) {
    const torch::Tensor wide = x.to(torch::kFloat32);  // as it is, but for what is another product's result
    tiles_.emplace(wide.data_ptr<float>(), wide.size(0), wide.size(1), TypeOf(weights));
  } else if (type == torch::kFloat32 || x.scalar_type() == type) {
    x_ = x.to(type);
  } else {
    x_ = torch::empty(x.sizes(), type);
    kernels::Narrow(TypeOf(x_), x.data_ptr<float>(), x.numel(), x_.data_ptr());
  }
}

CpuProjection::CpuProjection(std::vector<Linear> linears, Copies copies)
    : linears_(std::move(linears)),
      inputs_(linears_.front().weight.size(1)),
      keeps_(copies != Copies::kNone),
      packs_(copies == Copies::kPacked || (keeps_ && PackingPays(linears_))) {
  std::vector<torch::Tensor> biases;
  for (const Linear& linear : linears_) {
    outputs_ += linear.weight.size(0);
    if (linear.bias.defined()) biases.push_back(linear.bias);
  }
  if (!biases.empty()) bias_ = torch::cat(biases).to(library_type());
}

bool CpuProjection::PackingPays(const std::vector<Linear>& linears) {
  int64_t numbers = 0;
  for (const Linear& linear : linears) numbers += linear.weight.numel();
  return numbers >= kLeastPacked && at::globalContext().hasMKLDNN();
}

torch::ScalarType CpuProjection::library_type() const { return LibraryTypeFor(linears_.front().weight.scalar_type()); }

torch::Tensor CpuProjection::Stacked() const {
  if (linears_.size() == 1) return linears_.front().weight;
  std::vector<torch::Tensor> weights;
  for (const Linear& linear : linears_) weights.push_back(linear.weight);
  return torch::cat(weights);
}

void CpuProjection::PrepareForward() const {
  if (!packs_ || kernels::MultipliesByTiles(TypeOf(linears_.front().weight), inputs_)) return;
  std::call_once(forward_->once, [&] { forward_->weight = Pack(Stacked().to(library_type())); });
}

void CpuProjection::PrepareBackward() const {
  const bool by_tiles = kernels::MultipliesByTiles(TypeOf(linears_.front().weight), outputs_);
  if (!keeps_ || (!packs_ && !by_tiles)) return;
  std::call_once(backward_->once,
                 [&] { backward_->weight = by_tiles ? Transposed() : Pack(Transposed().to(library_type())); });
}

torch::Tensor CpuProjection::Forward(const ProjectionInput& x) const {
  PrepareForward();
  if (packs_ && !x.tiles_.has_value()) return MultiplyPacked(x.x_, forward_->weight, bias_);
  const int64_t rows = x.tiles_.has_value() ? x.tiles_->rows() : x.x_.size(0);
  const torch::ScalarType type = x.tiles_.has_value() ? torch::kFloat32 : x.x_.scalar_type();
  const torch::Tensor out = torch::empty({rows, outputs_}, type);
  int64_t at = 0;
  for (const Linear& linear : linears_) {
    const int64_t outputs = linear.weight.size(0);
    if (x.tiles_.has_value()) {
      kernels::Linear(MatrixOf(linear.weight), *x.tiles_, /*bias=*/nullptr, out.data_ptr<float>() + at, outputs_, 0,
                      outputs);
    } else {
      torch::Tensor columns = out.narrow(1, at, outputs);
      torch::mm_out(columns, x.x_, linear.weight.to(library_type()).t());
    }
    at += outputs;
  }
  return bias_.defined() ? out.add_(bias_) : out;
}

torch::Tensor CpuProjection::Backward(const ProjectionInput& gradient) const {
  PrepareBackward();
  if (gradient.tiles_.has_value()) {
    const torch::Tensor at_x = torch::empty({gradient.tiles_->rows(), inputs_}, torch::kFloat32);
    const torch::Tensor weight = keeps_ ? backward_->weight : Transposed();
    kernels::Linear(MatrixOf(weight), *gradient.tiles_, /*bias=*/nullptr, at_x.data_ptr<float>(), inputs_, 0, inputs_);
    return at_x;
  }
  if (packs_) return MultiplyPacked(gradient.x_, backward_->weight, {});
  torch::Tensor at_x;
  int64_t at = 0;
  for (const Linear& linear : linears_) {
    const torch::Tensor columns = gradient.x_.narrow(1, at, linear.weight.size(0));
    const torch::Tensor weight = linear.weight.to(library_type());
    at_x = at_x.defined() ? at_x.addmm_(columns, weight) : torch::mm(columns, weight);
    at += linear.weight.size(0);
  }
  return at_x;
}

}  // namespace nabla
