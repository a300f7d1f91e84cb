// Products with frozen weights on a CPU, vectorised for the machine it runs on (Highway). No torch.
//
//   const LinearInput input(x, rows, /*inputs=*/192, NumberType::kBfloat16);      // once for all products of x
//   Linear({weight, NumberType::kBfloat16, /*outputs=*/512, /*inputs=*/192}, input, bias, out, 512, 0, 512);
//
// Row-independent: an element of the result is one dot product, summed in float32 in an order that depends on `inputs`
// alone, so a token's numbers do not depend on which others share its batch. Weights are used as they lie in the file,
// [outputs, inputs]. For bfloat16 weights x is rounded to bfloat16 first, as a bfloat16 model's activations are in
// Hugging Face. For int8 weights it is rounded to bytes, every 32 numbers to multiples of a scale of their own, on CPUs
// that multiply bytes (AVX512_VNNI), and stays float32 on others. Thread-safe.
#ifndef NABLA_ENGINE_KERNELS_LINEAR_H_
#define NABLA_ENGINE_KERNELS_LINEAR_H_

#include <cstdint>
#include <vector>

namespace nabla::kernels {

enum class NumberType { kFloat32, kBfloat16, kInt8 };

struct WeightMatrix {
  const void* data = nullptr;  // [outputs, inputs], rows without gaps
  NumberType type = NumberType::kFloat32;
  int64_t outputs = 0;
  int64_t inputs = 0;
  const float* scales = nullptr;  // int8 only: [outputs], what the numbers of a row are multiples of
  bool packed = false;            // bfloat16 only: as PackPairs leaves them, see linear_pairs.h
};

// The nearest int8 multiples of the scale that makes the largest of `count` numbers ±127. Returns the scale.
float QuantizeRow(const float* row, int64_t count, int8_t* out);

// 64 numbers of a row as bytes.
struct alignas(64) ByteBlock {
  int8_t bytes[64];    // multiples of the scales of their lanes
  int32_t starts[16];  // of a lane's four bytes, -128 times their sum
  float scales[16];    // the first eight of the first 32 bytes, the others of the others
};

// Numbers that begin with a cache line: vectors of 64 bytes that lie across two take twice as long to load. (AMD Zen 5,
// 16 rows of bfloat16 numbers: x and weights both so 430 GFLOP/s a core, either of them 400, none 335.)
template <typename Number>
class AlignedNumbers {
 public:
  void resize(int64_t count) { lines_.resize((count * sizeof(Number) + sizeof(Line) - 1) / sizeof(Line)); }
  bool empty() const { return lines_.empty(); }
  Number* data() { return reinterpret_cast<Number*>(lines_.data()); }
  const Number* data() const { return reinterpret_cast<const Number*>(lines_.data()); }

 private:
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> lines_;
};

// x [rows, inputs] as the products with weights of a type want it. Refers to x, which must outlive it and not change.
class LinearInput {
 public:
  LinearInput(const float* x, int64_t rows, int64_t inputs, NumberType weights) { Assign(x, rows, inputs, weights); }
  LinearInput() = default;  // to be assigned

  // As if made anew, in the memory that is there.
  void Assign(const float* x, int64_t rows, int64_t inputs, NumberType weights);

  // The same in pieces, for x whose columns come from several threads: Take(begin, end) once columns [begin, end) are
  // there, until all were. Both are multiples of kTogether, or `end` is `inputs`. Pieces may be taken at the same time.
  static constexpr int64_t kTogether = 32;
  void AssignInPieces(const float* x, int64_t rows, int64_t inputs, NumberType weights);
  void Take(int64_t begin, int64_t end);

  int64_t rows() const { return rows_; }
  bool in_bytes() const { return !blocks_.empty(); }
  const ByteBlock* blocks() const { return blocks_.data(); }  // [rows, ⌈inputs / 64⌉]
  bool in_tiles() const { return !pairs_.empty(); }
  const uint32_t* pairs() const { return pairs_.data(); }  // see PackForTiles
  bool narrow() const { return !narrow_.empty(); }
  const uint16_t* narrow_numbers() const { return narrow_.data(); }                 // bfloat16 [rows, inputs]
  const float* numbers() const { return rounded_.empty() ? x_ : rounded_.data(); }  // [rows, inputs]

 private:
  const float* x_ = nullptr;
  int64_t rows_ = 0;
  int64_t inputs_ = 0;
  // One of them, or none: x as it is.
  AlignedNumbers<float> rounded_;
  AlignedNumbers<uint16_t> narrow_;
  AlignedNumbers<uint32_t> pairs_;
  std::vector<ByteBlock> blocks_;
};

// Whether rows of `inputs` numbers meet weights of a type in the CPU's tile units, which no library beats.
bool MultipliesByTiles(NumberType weights, int64_t inputs);

// out[i·out_stride + o] = Σ_k x[i, k] · weight[o, k] + bias[o] for all rows i and o in [begin, end). `bias` may be
// null. `x` was made for the weight's type and inputs. Of packed weights `begin` and `end` are multiples of 16.
void Linear(const WeightMatrix& weight, const LinearInput& x, const float* bias, float* out, int64_t out_stride,
            int64_t begin, int64_t end);

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_LINEAR_H_
