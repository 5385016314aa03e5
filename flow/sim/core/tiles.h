// The four instructions on tiles that the AMX kernel is made of, and their meaning in plain C++:
// "Intel Architecture Instruction Set Extensions Programming Reference", chapter 3. A tile is 16
// rows of 64 bytes.
#ifndef FLOW_SIM_CORE_TILES_H_
#define FLOW_SIM_CORE_TILES_H_

#include <cstddef>
#include <cstdint>

namespace vta {
namespace {

inline constexpr size_t kTileRows = 16, kTileRowBytes = 64;

// The memory operand of LDTILECFG, for eight tiles of full size.
struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64, "as the instruction reads it");

// Tiles without the instructions: a kernel written for them runs on any processor.
struct ModelTiles {
  struct Tile {
    uint8_t bytes[kTileRows][kTileRowBytes];
  };
  struct State {
    Tile tile[8];
  };

  static State& state() {
    static thread_local State all;
    return all;
  }
  template <int kTile>
  static void Zero() {
    state().tile[kTile] = Tile();
  }
  template <int kTile>
  static void Load(const void* from, size_t stride) {
    for (size_t r = 0; r < kTileRows; ++r) {
      __builtin_memcpy(state().tile[kTile].bytes[r], static_cast<const uint8_t*>(from) + r * stride,
                       kTileRowBytes);
    }
  }
  template <int kTile>
  static void Store(void* to, size_t stride) {
    for (size_t r = 0; r < kTileRows; ++r) {
      __builtin_memcpy(static_cast<uint8_t*>(to) + r * stride, state().tile[kTile].bytes[r],
                       kTileRowBytes);
    }
  }
  // TDPBSSD: sum[m][n] += sum over k < 16, i < 4 of a[m][4 k + i] * b[k][4 n + i], of int8, modulo
  // 2^32.
  template <int kSum, int kA, int kB>
  static void Dot() {
    State& all = state();
    for (size_t m = 0; m < kTileRows; ++m) {
      for (size_t n = 0; n < 16; ++n) {
        uint32_t sum;
        __builtin_memcpy(&sum, all.tile[kSum].bytes[m] + 4 * n, 4);
        for (size_t k = 0; k < 64; ++k) {
          sum +=
              static_cast<uint32_t>(static_cast<int8_t>(all.tile[kA].bytes[m][k]) *
                                    static_cast<int8_t>(all.tile[kB].bytes[k / 4][4 * n + k % 4]));
        }
        __builtin_memcpy(all.tile[kSum].bytes[m] + 4 * n, &sum, 4);
      }
    }
  }
};

}  // namespace
}  // namespace vta

#endif  // FLOW_SIM_CORE_TILES_H_
