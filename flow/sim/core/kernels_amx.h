// The GEMM on tiles, for kernels_amx.cc and its software model. inp is int8; wgt is packed as in
// kernels_gemm.h, whose lines are the rows of a tile: 16 output lanes and four input lanes each.
//
// A tile of inp has up to 16 rows of 64 input lanes: four VTA steps of a block of 16, for 16 rows.
// They are gathered into a buffer, 16 lanes at a time, since taps may lie anywhere; the columns of
// a call share it. Tiles of wgt are read in place where they lie one behind the other. Two tiles of
// inp and two of wgt give four tiles of sums at a time.
//
// T provides the tiles, as in tiles.h: Begin, End, Zero<t>, Load<t>, Store<t>, Dot<sum, inp, wgt>;
// and vectors of 16 lanes, as in kernels_gemm.h: Vec, Load, Store, Widen, Add, Mul, Shr, Min, Max,
// Set; and Join<n>, which stores n pieces of 16 bytes and zeros behind them, 64 bytes in all.
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

// 16 lanes of an inp element are a piece; their weights are as many lines of a tile as the piece
// has chunks of four lanes.
inline constexpr size_t kPieceBytes = 16, kPieces = kTileRowBytes / kPieceBytes;
inline constexpr size_t kPieceLines = kTileRows / kPieces;
// Tiles of inp that are kept for all columns: those of two tiles of rows fit into an L1 cache.
inline constexpr size_t kPanel = 16;

using TileBytes = uint8_t[kTileRows][kTileRowBytes];

// A tile of inp of one term: `count` pieces, the rest zeros.
struct TilePieces {
  const GemmTerm* term;
  size_t count;
  int32_t src[kPieces];    // bytes, from the row's
  size_t tap[kPieces];     // of each piece
  uint32_t line[kPieces];  // from its tap's
};

struct TileBuffers {
  alignas(64) TileBytes inp[2][kPanel];  // of each tile of rows
  alignas(64) TileBytes wgt;
  alignas(64) int32_t sums[2][kMostColumns][kTileRows][kColumn];
};

// Walks the tiles of inp of a call.
class TileWalk {
 public:
  explicit TileWalk(const GemmArgs& args) : args_(args) { SkipEmpty(); }
  bool done() const { return term_ == args_.term_count; }
  TilePieces Next() {
    const size_t pieces = args_.block / kPieceBytes;
    TilePieces tile = {&args_.terms[term_], 0, {}, {}, {}};
    const size_t all = tile.term->tap_count * pieces;
    for (; tile.count < kPieces && piece_ < all; ++tile.count, ++piece_) {
      const size_t tap = piece_ / pieces, part = piece_ % pieces;
      tile.src[tile.count] = tile.term->src[tap] + static_cast<int32_t>(part * kPieceBytes);
      tile.tap[tile.count] = tap;
      tile.line[tile.count] = static_cast<uint32_t>(part * kPieceLines);
    }
    if (piece_ == all) {
      ++term_;
      piece_ = 0;
      SkipEmpty();
    }
    return tile;
  }

 private:
  void SkipEmpty() {
    while (term_ < args_.term_count && args_.terms[term_].tap_count == 0) ++term_;
  }

  const GemmArgs& args_;
  size_t term_ = 0, piece_ = 0;
};

// Where the tile of wgt of a column lies: in place, or in `buffer`. What is behind the weights of
// the last piece is multiplied by zeros.
inline const uint8_t* WgtTile(const GemmArgs& args, const TilePieces& tile, size_t column,
                              TileBytes* buffer) {
  const auto line = [&](size_t p) {
    return tile.term->wgt[tile.tap[p] * args.columns + column] + tile.line[p];
  };
  const uint32_t first = line(0);
  bool in_place = true;
  for (size_t p = 1; p < tile.count; ++p) in_place &= line(p) == first + p * kPieceLines;
  if (in_place) return args.wgt + size_t{first} * kLineBytes;
  for (size_t p = 0; p < tile.count; ++p) {
    __builtin_memcpy((*buffer)[p * kPieceLines], args.wgt + size_t{line(p)} * kLineBytes,
                     kPieceLines * kLineBytes);
  }
  return (*buffer)[0];
}

template <typename T, size_t kCount>
inline void GatherPieces(const TilePieces& tile, size_t first, size_t rows, TileBytes* to) {
  const GemmRow* const from = tile.term->rows + first;
  const uint8_t* piece[kCount];
  for (size_t p = 0; p < kCount; ++p) piece[p] = tile.term->inp + tile.src[p];
  for (size_t r = 0; r < rows; ++r) {
    const uint8_t* at[kCount];
    for (size_t p = 0; p < kCount; ++p) at[p] = piece[p] + from[r].src;
    T::template Join<kCount>(at, (*to)[r]);
  }
}

// Copies what `rows` rows from `first` on read into a tile.
template <typename T>
inline void Gather(const TilePieces& tile, size_t first, size_t rows, TileBytes* to) {
  switch (tile.count) {
    case 1:
      return GatherPieces<T, 1>(tile, first, rows, to);
    case 2:
      return GatherPieces<T, 2>(tile, first, rows, to);
    case 3:
      return GatherPieces<T, 3>(tile, first, rows, to);
    default:
      return GatherPieces<T, 4>(tile, first, rows, to);
  }
}

// Rows of one or two tiles.
struct TileRowsOf {
  size_t first[2], count[2];
};

template <typename T, int kTall>
inline void GatherTall(const TilePieces& tile, const TileRowsOf& rows, size_t at,
                       TileBuffers* buffers) {
  for (int i = 0; i < kTall; ++i) {
    Gather<T>(tile, rows.first[i], rows.count[i], &buffers->inp[i][at]);
  }
}

// Adds a panel of tiles of inp times kWide columns from `column` on to the sums in tiles 0 to 3.
template <typename T, int kTall, int kWide>
inline void DotPanel(const GemmArgs& args, const TilePieces* tiles, size_t count,
                     const TileRowsOf& rows, size_t column, TileBuffers* buffers) {
  for (size_t n = 0; n < count; ++n) {
    // The first columns gather: the next tile while this one is multiplied.
    if (column == 0 && n + 1 < count) GatherTall<T, kTall>(tiles[n + 1], rows, n + 1, buffers);
    T::template Load<4>(buffers->inp[0][n], kTileRowBytes);
    T::template Load<6>(WgtTile(args, tiles[n], column, &buffers->wgt), kTileRowBytes);
    T::template Dot<0, 4, 6>();
    if constexpr (kTall == 2) {
      T::template Load<5>(buffers->inp[1][n], kTileRowBytes);
      T::template Dot<2, 5, 6>();
    }
    if constexpr (kWide == 2) {
      T::template Load<7>(WgtTile(args, tiles[n], column + 1, &buffers->wgt), kTileRowBytes);
      T::template Dot<1, 4, 7>();
      if constexpr (kTall == 2) T::template Dot<3, 5, 7>();
    }
  }
}

template <typename T, int kTall, int kWide>
inline void StoreSums(size_t column, TileBuffers* buffers) {
  T::template Store<0>(buffers->sums[0][column], kTileRowBytes);
  if constexpr (kWide == 2) T::template Store<1>(buffers->sums[0][column + 1], kTileRowBytes);
  if constexpr (kTall == 2) T::template Store<2>(buffers->sums[1][column], kTileRowBytes);
  if constexpr (kTall == 2 && kWide == 2) {
    T::template Store<3>(buffers->sums[1][column + 1], kTileRowBytes);
  }
}

template <typename T, int kTall, int kWide>
inline void LoadSums(size_t column, const TileBuffers& buffers) {
  T::template Load<0>(buffers.sums[0][column], kTileRowBytes);
  if constexpr (kWide == 2) T::template Load<1>(buffers.sums[0][column + 1], kTileRowBytes);
  if constexpr (kTall == 2) T::template Load<2>(buffers.sums[1][column], kTileRowBytes);
  if constexpr (kTall == 2 && kWide == 2) {
    T::template Load<3>(buffers.sums[1][column + 1], kTileRowBytes);
  }
}

template <typename T>
inline void ZeroSums() {
  T::template Zero<0>();
  T::template Zero<1>();
  T::template Zero<2>();
  T::template Zero<3>();
}

// The sums of all columns for rows of one or two tiles. They stay in tiles where there are no more
// than two columns.
template <typename T, int kTall>
inline void SumRows(const GemmArgs& args, const TileRowsOf& rows, TileBuffers* buffers) {
  TileWalk walk(args);
  TilePieces tiles[kPanel];
  for (bool first = true, last = false; !last; first = false) {
    size_t count = 0;
    while (count < kPanel && !walk.done()) tiles[count++] = walk.Next();
    last = walk.done();
    if (count != 0) GatherTall<T, kTall>(tiles[0], rows, 0, buffers);
    const bool kept = args.columns <= 2;
    for (size_t c = 0; c < args.columns; c += 2) {
      const bool wide = c + 1 < args.columns;
      if (first) {
        ZeroSums<T>();
      } else if (!kept) {
        wide ? LoadSums<T, kTall, 2>(c, *buffers) : LoadSums<T, kTall, 1>(c, *buffers);
      }
      if (wide) {
        DotPanel<T, kTall, 2>(args, tiles, count, rows, c, buffers);
        if (last || !kept) StoreSums<T, kTall, 2>(c, buffers);
      } else {
        DotPanel<T, kTall, 1>(args, tiles, count, rows, c, buffers);
        if (last || !kept) StoreSums<T, kTall, 1>(c, buffers);
      }
    }
  }
}

// What the tiles have not computed of `count` rows of a column.
template <typename T>
inline void FinishRows(const GemmArgs& args, size_t first, size_t count, size_t column,
                       const int32_t (*sums)[kColumn]) {
  using Vec = typename T::Vec;
  const Vec init = T::Load(args.init[column]);
  const Clip clip = args.clip == nullptr ? Clip() : *args.clip;
  const Vec low = T::Set(clip.low), high = T::Set(clip.high);
  for (size_t r = 0; r < count; ++r) {
    int32_t* const out = args.acc[column] + args.rows[first + r].dst;
    Vec sum = T::Add(init, T::Load(sums[r]));
    if (!args.fresh) sum = T::Add(sum, T::Load(out));
    for (size_t n = 0; n < args.diagonal_count; ++n) {
      const GemmDiagonal& d = args.diagonals[n];
      if (d.column != column) continue;
      const Vec x = T::Widen(d.inp + d.rows[first + r].src);
      sum = T::Add(sum, T::Mul(x, T::Load(d.factors)));
    }
    if (args.clip != nullptr) sum = T::Min(T::Max(T::Shr(sum, clip.shift), low), high);
    T::Store(out, sum);
  }
}

template <typename T>
void TileGemm(const GemmArgs& args) {
  TileBuffers buffers;
  // As few tiles as possible, all of nearly the same size.
  const size_t tiles = (args.row_count + kTileRows - 1) / kTileRows;
  if (tiles == 0) return;
  const size_t least = args.row_count / tiles, more = args.row_count % tiles;
  T::Begin(least + (more != 0));
  for (size_t t = 0, first = 0; t < tiles; t += 2) {
    TileRowsOf rows = {};
    const size_t tall = t + 1 < tiles ? 2 : 1;
    for (size_t i = 0; i < tall; ++i) {
      rows.first[i] = first;
      rows.count[i] = least + (t + i < more);
      first += rows.count[i];
    }
    if (tall == 2) {
      SumRows<T, 2>(args, rows, &buffers);
    } else {
      SumRows<T, 1>(args, rows, &buffers);
    }
    for (size_t c = 0; c < args.columns; ++c) {
      for (size_t i = 0; i < tall; ++i) {
        FinishRows<T>(args, rows.first[i], rows.count[i], c, buffers.sums[i][c]);
      }
    }
  }
  T::End();
}

}  // namespace
}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_AMX_H_
