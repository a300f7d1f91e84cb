// Reading weights from memory at its full rate while products take several outputs side by side.
//
// Memory yields its full rate to one stream. The weights of outputs side by side lie a row apart, which prefetchers
// follow half as fast (AMD Zen 4: 9 GB/s a core, one stream 20), and they rest while further rows of x are multiplied.
// So tiles fetch the weights of a later block themselves, in the order in which they lie (SmolLM2 on Zen 4, 8 rows: 12
// ms for the weights in bfloat16 instead of 25, 21 in float32 instead of 36).
#ifndef NABLA_ENGINE_KERNELS_WEIGHT_STREAMS_H_
#define NABLA_ENGINE_KERNELS_WEIGHT_STREAMS_H_

#include <algorithm>
#include <cstdint>

namespace nabla::kernels {

// Divides fetching a block of weights, the one kDistance behind the block being multiplied, among the tiles that
// multiply this one. A tile goes along x in steps of a cache line of weights; each fetches `lines` cache lines.
class WeightStream {
 public:
  static constexpr int64_t kLine = 64;            // bytes
  static constexpr int64_t kDistance = 16 << 10;  // bytes; 8 to 64 KiB measured alike

  struct Share {
    const char* from = nullptr;
    int lines = 0;  // 0, 1, 2 or all
  };

  WeightStream() = default;  // fetches nothing

  // The steps of one tile that fetches one line at each make up `tile_bytes`, and `lines` times that the block.
  // `tiles`: how many multiply it. Nothing at `end` or behind is fetched.
  WeightStream(const void* block, const void* end, int lines, int64_t tile_bytes, int64_t tiles)
      : next_(static_cast<const char*>(block) + kDistance), tile_bytes_(tile_bytes) {
    if (next_ >= static_cast<const char*>(end)) return;
    left_ = lines;
    share_ = tiles <= 1 ? lines : tiles < lines ? std::min(lines, 2) : 1;
  }

  Share NextTile() {
    const Share share = {next_, std::min(left_, share_)};
    left_ -= share.lines, next_ += share.lines * tile_bytes_;
    return share;
  }

  // Into the second-level cache: the first is for x, which all weights meet.
  template <int kLines>
  static void Fetch(const char* from) {
    for (int line = 0; line < kLines; ++line) __builtin_prefetch(from + line * kLine, /*rw=*/0, /*locality=*/2);
  }

 private:
  const char* next_ = nullptr;
  int64_t tile_bytes_ = 0;
  int left_ = 0, share_ = 0;
};

// Calls tile.operator()<kRows, kLines>(row, ahead) for the tiles of 4, 2 or 1 rows that kOutputs outputs side by side
// are divided into, 1 row alone where there are more than four outputs. A tile is to fetch kLines lines of `ahead`.
template <int kOutputs, typename Tile>
void ForTiles(int64_t rows, WeightStream stream, const Tile& tile) {
  int64_t row = 0;
  const auto next = [&]<int kRows>() {
    const auto [ahead, lines] = stream.NextTile();
    switch (lines) {
      case 0:
        tile.template operator()<kRows, 0>(row, ahead);
        break;
      case 1:
        tile.template operator()<kRows, 1>(row, ahead);
        break;
      case 2:
        tile.template operator()<kRows, 2>(row, ahead);
        break;
      default:
        tile.template operator()<kRows, kOutputs>(row, ahead);
    }
    row += kRows;
  };
  if constexpr (kOutputs <= 4) {
    while (row + 4 <= rows) next.template operator()<4>();
    if (rows - row >= 2) next.template operator()<2>();
  }
  if (row < rows) next.template operator()<1>();
}

// Whether products with one or two rows are to take one output after another, not several side by side: AMD's
// prefetchers then do better than WeightStream (SmolLM2, one row of bfloat16: 10 ms and 12).
inline bool OneStreamIsBest() {
#if defined(__x86_64__)
  static const bool amd = __builtin_cpu_is("amd") != 0;
  return amd;
#else
  return false;
#endif
}

}  // namespace nabla::kernels

#endif  // NABLA_ENGINE_KERNELS_WEIGHT_STREAMS_H_
