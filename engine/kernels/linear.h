// Products with frozen weights on a CPU, vectorised for the machine it runs on (Highway). No torch.
//
//   Linear({weight, NumberType::kFloat32, /*outputs=*/512, /*inputs=*/192}, x, rows, bias, out, 512, 0, 512);
//
// Row-independent: an element of the result is one dot product, summed in an order that depends on `inputs` alone, so a
// token's numbers do not depend on which others share its batch. Weights are used as they lie in the file, [outputs,
// inputs]. Thread-safe.
#ifndef NABLA_ENGINE_KERNELS_LINEAR_H_
#define NABLA_ENGINE_KERNELS_LINEAR_H_

#include <cstdint>

namespace nabla::kernels {

enum class NumberType { kFloat32, kBfloat16 };

struct WeightMatrix {
  const void* data = nullptr;  // [outputs, inputs], rows without gaps
  NumberType type = NumberType::kFloat32;
  int64_t outputs = 0;
  int64_t inputs = 0;
};

// out[i·out_stride + o] = Σ_k x[i·inputs + k] · weight[o, k] + bias[o] for i < rows and o in [begin, end). `bias` may
// be null.
void Linear(const WeightMatrix& weight, const float* x, int64_t rows, const float* bias, float* out, int64_t out_stride,
            int64_t begin, int64_t end);

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_LINEAR_H_
