#include "engine/kernels/linear_amx.h"

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#define NABLA_AMX __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw")))

namespace nabla::kernels {
namespace {

constexpr int64_t kTile = 16;          // rows of x, or outputs, of a tile
constexpr int64_t kTileInputs = 32;    // numbers of one of its rows: 64 bytes of bfloat16
constexpr int64_t kTileNumbers = 256;  // float32 sums of a tile

bool SystemLetsUsUseTiles() {
  constexpr uint32_t kAmxBf16 = 1U << 22, kAmxTile = 1U << 24, kAvx512Bw = 1U << 30;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if ((edx & kAmxBf16) == 0 || (edx & kAmxTile) == 0 || (ebx & kAvx512Bw) == 0) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, for all threads of the process
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// The CPU's own layout (LDTILECFG): bytes of a row, and rows, of each of eight tiles.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0 to 3 are sums [outputs, rows of x], 4 and 5 weights [outputs, inputs], 6 and 7 pairs [inputs / 2, rows of x]:
// for `outputs` and `rows` of up to twice sixteen.
NABLA_AMX void Configure(int64_t outputs, int64_t rows) {
  TileConfig config;
  const auto set = [&config](int tile, int64_t height, int64_t width) {
    if (height <= 0 || width <= 0) return;
    config.rows[tile] = static_cast<uint8_t>(std::min(height, kTile));
    config.row_bytes[tile] = static_cast<uint16_t>(4 * std::min(width, kTile));
  };
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) set(2 * i + j, outputs - i * kTile, rows - j * kTile);
    set(4 + i, outputs - i * kTile, kTile);
    set(6 + i, kTile, rows - i * kTile);
  }
  _tile_loadconfig(&config);
}

// Rows and columns of 16 × 16 numbers change places.
NABLA_AMX inline void Transpose(__m512i* rows) {
  __m512i pairs[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  __m512i fours[16];
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      fours[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + j + 2]);
      fours[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + j + 2]);
    }
  }
  for (int j = 0; j < 4; ++j) {  // fours[i + j] holds columns j, 4 + j, 8 + j, 12 + j of rows i to i + 3
    const __m512i even_upper = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0x88);
    const __m512i odd_upper = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0xdd);
    const __m512i even_lower = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0x88);
    const __m512i odd_lower = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0xdd);
    rows[j] = _mm512_shuffle_i32x4(even_upper, even_lower, 0x88);
    rows[4 + j] = _mm512_shuffle_i32x4(odd_upper, odd_lower, 0x88);
    rows[8 + j] = _mm512_shuffle_i32x4(even_upper, even_lower, 0xdd);
    rows[12 + j] = _mm512_shuffle_i32x4(odd_upper, odd_lower, 0xdd);
  }
}

// To the nearest, ties to even. Not-a-numbers stay so, but for payloads that no arithmetic makes.
NABLA_AMX inline __m512i RoundToBfloat16(__m512i numbers) {
  const __m512i last_bit = _mm512_and_si512(_mm512_srli_epi32(numbers, 16), _mm512_set1_epi32(1));
  return _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(numbers, last_bit), _mm512_set1_epi32(0x7fff)), 16);
}

// 32 numbers as 16 pairs.
NABLA_AMX inline __m512i LoadPairs(const float* x) {
  const __m256i low = _mm512_cvtepi32_epi16(RoundToBfloat16(_mm512_loadu_si512(x)));
  const __m256i high = _mm512_cvtepi32_epi16(RoundToBfloat16(_mm512_loadu_si512(x + kTile)));
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// Sums of kOutputTiles · 16 outputs by kRowTiles · 16 rows, tile by tile to `sums`.
template <int kOutputTiles, int kRowTiles>
NABLA_AMX void Sum(const uint16_t* weight, int64_t inputs, const uint32_t* pairs, int64_t rows, int64_t sum_bytes,
                   float* sums) {
  const int64_t weight_bytes = 2 * inputs, first_bytes = 4 * std::min(rows, kTile), second_bytes = 4 * (rows - kTile);
  const uint16_t* const second_outputs = weight + kTile * inputs;
  const uint32_t* const second_rows = pairs + kTile * inputs / 2;
  _tile_zero(0);
  if constexpr (kRowTiles == 2) _tile_zero(1);
  if constexpr (kOutputTiles == 2) _tile_zero(2);
  if constexpr (kOutputTiles == 2 && kRowTiles == 2) _tile_zero(3);
  for (int64_t k = 0; k < inputs; k += kTileInputs) {
    _tile_loadd(6, pairs + k / 2 * (first_bytes / 4), first_bytes);
    if constexpr (kRowTiles == 2) _tile_loadd(7, second_rows + k / 2 * (second_bytes / 4), second_bytes);
    _tile_loadd(4, weight + k, weight_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kRowTiles == 2) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kOutputTiles == 2) {
      _tile_loadd(5, second_outputs + k, weight_bytes);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kRowTiles == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, sum_bytes);
  if constexpr (kRowTiles == 2) _tile_stored(1, sums + kTileNumbers, sum_bytes);
  if constexpr (kOutputTiles == 2) _tile_stored(2, sums + 2 * kTileNumbers, sum_bytes);
  if constexpr (kOutputTiles == 2 && kRowTiles == 2) _tile_stored(3, sums + 3 * kTileNumbers, sum_bytes);
}

// sums [outputs, 16] (of one row: [outputs]) to out [rows, outputs].
NABLA_AMX void StoreSums(const float* sums, int64_t outputs, int64_t rows, bool one_row, const float* bias, float* out,
                         int64_t out_stride) {
  const __mmask16 wanted = static_cast<__mmask16>((1U << outputs) - 1);
  const __m512 addend = bias != nullptr ? _mm512_maskz_loadu_ps(wanted, bias) : _mm512_setzero_ps();
  __m512i columns[kTile];
  for (int64_t i = 0; i < (one_row ? 1 : kTile); ++i) columns[i] = _mm512_load_si512(sums + i * kTile);
  if (!one_row) Transpose(columns);
  for (int64_t r = 0; r < rows; ++r) {
    _mm512_mask_storeu_ps(out + r * out_stride, wanted, _mm512_add_ps(_mm512_castsi512_ps(columns[r]), addend));
  }
}

}  // namespace

bool TilesFit(int64_t inputs) {
  static const bool have_tiles = SystemLetsUsUseTiles();
  return have_tiles && inputs % kTileInputs == 0;
}

NABLA_AMX void PackForTiles(const float* x, int64_t rows, int64_t inputs, int64_t begin, int64_t end, uint32_t* pairs) {
  for (int64_t i = 0; i < rows; i += kTile) {
    const int64_t count = std::min(kTile, rows - i);
    const __mmask16 wanted = static_cast<__mmask16>((1U << count) - 1);
    uint32_t* to = pairs + i * inputs / 2 + begin / 2 * count;
    for (int64_t k = begin; k < end; k += kTileInputs) {
      __m512i block[kTile];
      for (int64_t r = 0; r < count; ++r) block[r] = LoadPairs(x + (i + r) * inputs + k);
      if (count == 1) {
        _mm512_storeu_si512(to, block[0]);
        to += kTile;
        continue;
      }
      for (int64_t r = count; r < kTile; ++r) block[r] = _mm512_setzero_si512();
      Transpose(block);
      for (int64_t pair = 0; pair < kTile; ++pair, to += count) _mm512_mask_storeu_epi32(to, wanted, block[pair]);
    }
  }
}

NABLA_AMX void LinearByTiles(const WeightMatrix& weight, const uint32_t* pairs, int64_t rows, const float* bias,
                             float* out, int64_t out_stride, int64_t begin, int64_t end) {
  const int64_t inputs = weight.inputs;
  alignas(64) float sums[4 * kTileNumbers];
  for (int64_t i = 0; i < rows; i += 2 * kTile) {
    const int64_t count = std::min(2 * kTile, rows - i);
    const bool one_row = count == 1;
    for (int64_t o = begin; o < end; o += 2 * kTile) {
      const int64_t outputs = std::min(2 * kTile, end - o);
      if (o == begin || outputs < 2 * kTile) Configure(outputs, count);
      const auto* block = static_cast<const uint16_t*>(weight.data) + o * inputs;
      const auto sum =
          outputs > kTile ? (count > kTile ? Sum<2, 2> : Sum<2, 1>) : (count > kTile ? Sum<1, 2> : Sum<1, 1>);
      sum(block, inputs, pairs + i * inputs / 2, count, one_row ? 4 : 4 * kTile, sums);
      for (int64_t tile = 0; tile < 4; ++tile) {
        const int64_t first_output = tile / 2 * kTile, first_row = tile % 2 * kTile;
        if (first_output >= outputs || first_row >= count) continue;
        StoreSums(sums + tile * kTileNumbers, std::min(kTile, outputs - first_output),
                  std::min(kTile, count - first_row), one_row, bias != nullptr ? bias + o + first_output : nullptr,
                  out + (i + first_row) * out_stride + o + first_output, out_stride);
      }
    }
  }
  _tile_release();
}

}  // namespace nabla::kernels

#else  // another kind of CPU

namespace nabla::kernels {

bool TilesFit(int64_t) { return false; }
void PackForTiles(const float*, int64_t, int64_t, int64_t, int64_t, uint32_t*) {}
void LinearByTiles(const WeightMatrix&, const uint32_t*, int64_t, const float*, float*, int64_t, int64_t, int64_t) {}

}  // namespace nabla::kernels

#endif
