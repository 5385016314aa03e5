// The GEMM on tiles, for kernels_amx.cc and its software model. inp is int8; wgt is packed as in
// kernels_gemm.h, whose lines are the rows of a tile: 16 output lanes and four input lanes each.
//
// A tile of inp has 16 rows of 64 input lanes: four VTA steps of a block of 16, for 16 rows. They
// are gathered into a buffer, since taps may lie anywhere; tiles of wgt are read in place where
// they lie one behind the other. Two tiles of inp and two columns of wgt give four tiles of sums at
// a time.
//
// Tiles provides Begin, End (of the use of tiles), Zero<t>, Load<t>, Store<t> and Dot<sum, inp,
// wgt> as in tiles.h.
#ifndef FLOW_SIM_CORE_KERNELS_AMX_H_
#define FLOW_SIM_CORE_KERNELS_AMX_H_

#include "kernels_gemm.h"
#include "tiles.h"

namespace vta {
namespace {

// What PackVectorWgt needs to know.
struct AmxLanes {
  static constexpr size_t kInpBytes = 1;
  static constexpr int32_t kOffset = 0;
};

struct TileBuffers {
  alignas(64) uint8_t inp[2][kTileRows][kTileRowBytes];
  alignas(64) uint8_t wgt[2][kTileRows][kTileRowBytes];
  alignas(64) int32_t sums[2][2][kTileRows][kColumn];  // of tiles of rows, columns
};

// 16 lines of a tile, `lines` of each tap from line `first` on. Missing ones stay as they are: inp
// has zeros there.
struct TilePart {
  const GemmTap* taps;
  size_t tap_count;
  size_t first, lines;
};

// Where the tile of wgt of a column lies: in place, or in `buffer`.
inline const uint8_t* WgtTile(const GemmArgs& args, const TilePart& part, size_t column,
                              uint8_t (*buffer)[kTileRowBytes]) {
  const uint8_t* const at = args.wgt + (size_t{part.taps[0].wgt[column]} + part.first) * kLineBytes;
  bool in_place = part.tap_count * part.lines == kTileRows;
  for (size_t t = 1; t < part.tap_count; ++t) {
    in_place = in_place && part.taps[t].wgt[column] == part.taps[0].wgt[column] + t * part.lines;
  }
  if (in_place) return at;
  for (size_t t = 0; t < part.tap_count; ++t) {
    __builtin_memcpy(buffer[t * part.lines],
                     args.wgt + (size_t{part.taps[t].wgt[column]} + part.first) * kLineBytes,
                     part.lines * kLineBytes);
  }
  return buffer[0];
}

// Copies what `rows` rows from `first` on read into a tile; the rest is zero.
inline void GatherInp(const GemmTerm& term, const TilePart& part, size_t first, size_t rows,
                      uint8_t (*tile)[kTileRowBytes]) {
  const size_t bytes = part.lines * 4;
  for (size_t r = 0; r < rows; ++r) {
    const uint8_t* const from = term.inp + term.rows[first + r].src + part.first * 4;
    for (size_t t = 0; t < part.tap_count; ++t) {
      uint8_t* const to = tile[r] + t * bytes;
      if (bytes == 16) {
        __builtin_memcpy(to, from + part.taps[t].src, 16);
      } else if (bytes == 32) {
        __builtin_memcpy(to, from + part.taps[t].src, 32);
      } else {
        __builtin_memcpy(to, from + part.taps[t].src, 64);
      }
    }
    for (size_t i = part.tap_count * bytes; i < kTileRowBytes; ++i) tile[r][i] = 0;
  }
}

template <typename Tiles>
inline void DotPart(const GemmArgs& args, const GemmTerm& term, const TilePart& part, size_t first,
                    size_t rows, TileBuffers* buffers) {
  Tiles::template Load<6>(WgtTile(args, part, 0, buffers->wgt[0]), kLineBytes);
  if (args.columns == 2) {
    Tiles::template Load<7>(WgtTile(args, part, 1, buffers->wgt[1]), kLineBytes);
  }
  const size_t upper = rows < kTileRows ? rows : kTileRows;
  GatherInp(term, part, first, upper, buffers->inp[0]);
  Tiles::template Load<4>(buffers->inp[0], kTileRowBytes);
  Tiles::template Dot<0, 4, 6>();
  if (args.columns == 2) Tiles::template Dot<1, 4, 7>();
  if (rows <= kTileRows) return;
  GatherInp(term, part, first + kTileRows, rows - kTileRows, buffers->inp[1]);
  Tiles::template Load<5>(buffers->inp[1], kTileRowBytes);
  Tiles::template Dot<2, 5, 6>();
  if (args.columns == 2) Tiles::template Dot<3, 5, 7>();
}

// A finished row of a column: what the tiles have not computed.
inline void FinishRow(const GemmArgs& args, size_t row, size_t column, const int32_t* sums) {
  int32_t* const out = args.acc[column] + args.rows[row].dst;
  uint32_t sum[kColumn];
  for (size_t o = 0; o < kColumn; ++o) {
    sum[o] = static_cast<uint32_t>(sums[o]) + static_cast<uint32_t>(args.init[column][o]);
  }
  for (size_t o = 0; !args.fresh && o < kColumn; ++o) sum[o] += static_cast<uint32_t>(out[o]);
  for (size_t n = 0; n < args.diagonal_count; ++n) {
    const GemmDiagonal& d = args.diagonals[n];
    if (d.column != column) continue;
    const uint8_t* const x = d.inp + d.rows[row].src;
    for (size_t o = 0; o < kColumn; ++o) {
      sum[o] += static_cast<uint32_t>(SignExtend(x[o])) * static_cast<uint32_t>(d.factors[o]);
    }
  }
  const Clip clip = args.clip == nullptr ? Clip() : *args.clip;
  for (size_t o = 0; o < kColumn; ++o) {
    const int32_t a = Wrap(sum[o]) >> clip.shift, b = a > clip.low ? a : clip.low;
    out[o] = b < clip.high ? b : clip.high;
  }
}

template <typename Tiles>
void TileGemm(const GemmArgs& args) {
  TileBuffers buffers;
  // Rows that are not there are multiplied, too.
  __builtin_memset(buffers.inp, 0, sizeof(buffers.inp));
  __builtin_memset(buffers.wgt, 0, sizeof(buffers.wgt));
  const size_t chunks = args.block / 4;
  const size_t lines = chunks < kTileRows ? chunks : kTileRows;
  Tiles::Begin();
  for (size_t first = 0, rows; first < args.row_count; first += rows) {
    rows = args.row_count - first;
    if (rows > 2 * kTileRows) rows = 2 * kTileRows;
    Tiles::template Zero<0>();
    Tiles::template Zero<1>();
    Tiles::template Zero<2>();
    Tiles::template Zero<3>();
    for (size_t n = 0; n < args.term_count; ++n) {
      const GemmTerm& term = args.terms[n];
      const size_t most = kTileRows / lines;  // taps of a tile
      for (size_t t = 0; t < term.tap_count; t += most) {
        const size_t left = term.tap_count - t;
        for (size_t line = 0; line < chunks; line += lines) {
          const TilePart part{term.taps + t, left < most ? left : most, line, lines};
          DotPart<Tiles>(args, term, part, first, rows, &buffers);
        }
      }
    }
    Tiles::template Store<0>(buffers.sums[0][0], kTileRowBytes);
    Tiles::template Store<1>(buffers.sums[0][1], kTileRowBytes);
    Tiles::template Store<2>(buffers.sums[1][0], kTileRowBytes);
    Tiles::template Store<3>(buffers.sums[1][1], kTileRowBytes);
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 0; c < args.columns; ++c) {
        FinishRow(args, first + r, c, buffers.sums[r / kTileRows][c][r % kTileRows]);
      }
    }
  }
  Tiles::End();
}

}  // namespace
}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_AMX_H_
