// The GEMM on tiles, for kernels_amx.cc and its software model. inp is int8; wgt is packed as in
// kernels_gemm.h, whose lines are the rows of a tile: 16 output lanes and four input lanes each.
//
// A tile of inp has up to 16 rows of 64 input lanes: four VTA steps of a block of 16, for 16 rows.
// They are gathered into a buffer, 16 lanes at a time, since taps may lie anywhere; the columns of
// a call share it. Tiles of wgt are read in place where they lie one behind the other. Two tiles of
// inp and two of wgt give four tiles of sums at a time.
//
// T provides the tiles, as in tiles.h: Zero<t>, Load<t>, Store<t>, Dot<sum, inp, wgt>;
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

// 16 lanes of an inp element are a piece; the lines of their weights are a quarter of a tile.
inline constexpr size_t kPieceBytes = 16, kPieces = kTileRowBytes / kPieceBytes;
inline constexpr size_t kPieceLines = kTileRows / kPieces;
// Tiles of inp that are kept for all columns: those of two tiles of rows fit into an L1 cache.
inline constexpr size_t kPanel = 8;

using TileBytes = uint8_t[kTileRows][kTileRowBytes];

// A tile of inp of one term: pieces of its taps from `tap` on, or, where an element has more than a
// tile, those from piece `part` of this tap on. Where `count` is less than kPieces, zeros follow.
struct TilePlace {
  const GemmTerm* term;
  size_t tap, part, count;
};

struct TileBuffers {
  alignas(64) TileBytes inp[2][kPanel];  // of each tile of rows
  alignas(64) TileBytes wgt;
  alignas(64) int32_t sums[2][kMostColumns][kTileRows][kColumn];
};

// Walks the tiles of inp of a call. kTapPieces: pieces of a tap, or kPieces where it has as many or
// more.
template <size_t kTapPieces>
class TileWalk {
 public:
  explicit TileWalk(const GemmArgs& args)
      : pieces_(args.block / kPieceBytes), end_(args.terms + args.term_count) {
    at_.term = args.terms;
    SkipEmpty();
  }
  bool done() const { return at_.term == end_; }
  TilePlace Next() {
    constexpr size_t kTaps = kPieces / kTapPieces;
    TilePlace place = at_;
    const size_t left = at_.term->tap_count - at_.tap;
    place.count = kTapPieces * (left < kTaps ? left : kTaps);
    at_.part += kPieces;
    if (at_.part < pieces_) return place;
    at_.part = 0;
    at_.tap += kTaps;
    if (at_.tap < at_.term->tap_count) return place;
    at_.tap = 0;
    ++at_.term;
    SkipEmpty();
    return place;
  }

 private:
  void SkipEmpty() {
    while (at_.term != end_ && at_.term->tap_count == 0) ++at_.term;
  }

  const size_t pieces_;
  const GemmTerm* const end_;
  TilePlace at_ = {};
};

// Copies the tile of wgt of a column, whose taps may lie anywhere, into `buffer`.
template <size_t kTapPieces>
inline void CopyWgtTile(const GemmArgs& args, const TilePlace& place, const uint32_t* wgt,
                        TileBytes* buffer) {
  constexpr size_t kLines = kTapPieces * kPieceLines;
  for (size_t p = 0; p < place.count; p += kTapPieces, wgt += args.columns) {
    const size_t line = *wgt + place.part * kPieceLines;
    __builtin_memcpy((*buffer)[p * kPieceLines], args.wgt + line * kLineBytes, kLines * kLineBytes);
  }
}

// Where the tile of wgt of a column lies. What is behind the weights of the last piece is
// multiplied by zeros. `fetch`: whether to fetch the one that lies a panel behind it, too, which
// often comes next.
template <size_t kTapPieces>
inline const uint8_t* WgtTile(const GemmArgs& args, const TilePlace& place, size_t column,
                              bool fetch, TileBytes* buffer) {
  const uint32_t* const wgt = place.term->wgt + place.tap * args.columns + column;
  if (!place.term->in_order) {
    CopyWgtTile<kTapPieces>(args, place, wgt, buffer);
    return (*buffer)[0];
  }
  const uint8_t* const tile = args.wgt + (*wgt + place.part * kPieceLines) * kLineBytes;
  for (size_t line = 0; fetch && line < kTileRows; ++line) {
    __builtin_prefetch(tile + kPanel * sizeof(TileBytes) + line * kLineBytes, 0, 2);
  }
  return tile;
}

// Copies kCount pieces of `rows` rows into a tile.
template <typename T, size_t kTapPieces, size_t kCount>
inline void GatherPieces(const TilePlace& place, size_t first, size_t rows, TileBytes* to) {
  const GemmRow* const from = place.term->rows + first;
  const uint8_t* piece[kCount];
  for (size_t p = 0; p < kCount; ++p) {
    piece[p] = place.term->inp + place.term->src[place.tap + p / kTapPieces] +
               (place.part + p % kTapPieces) * kPieceBytes;
  }
  const auto join = [&](size_t r) {
    const uint8_t* at[kCount];
    for (size_t p = 0; p < kCount; ++p) at[p] = piece[p] + from[r].src;
    T::template Join<kCount>(at, (*to)[r]);
  };
  if (rows != kTileRows) {
    for (size_t r = 0; r < rows; ++r) join(r);
    return;
  }
#pragma GCC unroll 16
  for (size_t r = 0; r < kTileRows; ++r) join(r);
}

template <typename T, size_t kTapPieces>
inline void Gather(const TilePlace& place, size_t first, size_t rows, TileBytes* to) {
  if (place.count == kPieces) return GatherPieces<T, kTapPieces, kPieces>(place, first, rows, to);
  if constexpr (kTapPieces <= 2) {
    if (place.count == 2) return GatherPieces<T, kTapPieces, 2>(place, first, rows, to);
  }
  if constexpr (kTapPieces == 1) {
    if (place.count == 3) return GatherPieces<T, kTapPieces, 3>(place, first, rows, to);
    return GatherPieces<T, kTapPieces, 1>(place, first, rows, to);
  }
}

// Rows of one or two tiles: where each begins, and how many each has.
struct TileRowsOf {
  size_t first[2], count;
};

template <typename T, size_t kTapPieces, int kTall>
inline void GatherTall(const TilePlace& place, const TileRowsOf& rows, size_t at,
                       TileBuffers* buffers) {
  for (int i = 0; i < kTall; ++i) {
    Gather<T, kTapPieces>(place, rows.first[i], rows.count, &buffers->inp[i][at]);
  }
}

// Adds a panel of tiles of inp times kWide columns from `column` on to the sums in tiles 0 to 3.
template <typename T, size_t kTapPieces, int kTall, int kWide>
inline void DotPanel(const GemmArgs& args, const TilePlace* places, size_t count,
                     const TileRowsOf& rows, size_t column, TileBuffers* buffers) {
  const bool fetch = rows.first[0] == 0;
  const auto wgt = [&](size_t n, size_t c) {
    return WgtTile<kTapPieces>(args, places[n], c, fetch, &buffers->wgt);
  };
  for (size_t n = 0; n < count; ++n) {
    // The first columns gather: the next tile while this one is multiplied.
    const bool gather = column == 0 && n + 1 < count;
    if (gather)
      Gather<T, kTapPieces>(places[n + 1], rows.first[0], rows.count, &buffers->inp[0][n + 1]);
    T::template Load<4>(buffers->inp[0][n], kTileRowBytes);
    T::template Load<6>(wgt(n, column), kTileRowBytes);
    T::template Dot<0, 4, 6>();
    if constexpr (kWide == 2) {
      T::template Load<7>(wgt(n, column + 1), kTileRowBytes);
      T::template Dot<1, 4, 7>();
    }
    if constexpr (kTall == 2) {
      if (gather)
        Gather<T, kTapPieces>(places[n + 1], rows.first[1], rows.count, &buffers->inp[1][n + 1]);
      T::template Load<5>(buffers->inp[1][n], kTileRowBytes);
      T::template Dot<2, 5, 6>();
      if constexpr (kWide == 2) T::template Dot<3, 5, 7>();
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
template <typename T, size_t kTapPieces, int kTall>
inline void SumRows(const GemmArgs& args, const TileRowsOf& rows, TileBuffers* buffers) {
  TileWalk<kTapPieces> walk(args);
  TilePlace places[kPanel];
  const bool kept = args.columns <= 2;
  for (bool first = true, last = false; !last; first = false) {
    size_t count = 0;
    while (count < kPanel && !walk.done()) places[count++] = walk.Next();
    last = walk.done();
    if (count != 0) GatherTall<T, kTapPieces, kTall>(places[0], rows, 0, buffers);
    for (size_t c = 0; c < args.columns; c += 2) {
      const bool wide = c + 1 < args.columns;
      if (first) {
        ZeroSums<T>();
      } else if (!kept) {
        wide ? LoadSums<T, kTall, 2>(c, *buffers) : LoadSums<T, kTall, 1>(c, *buffers);
      }
      if (wide) {
        DotPanel<T, kTapPieces, kTall, 2>(args, places, count, rows, c, buffers);
        if (last || !kept) StoreSums<T, kTall, 2>(c, buffers);
      } else {
        DotPanel<T, kTapPieces, kTall, 1>(args, places, count, rows, c, buffers);
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
  const GemmDiagonal* diagonal = args.diagonals;
  const GemmDiagonal* const end = diagonal + args.diagonal_count;
  while (diagonal != end && diagonal->column != column) ++diagonal;
  // Copies: the stores below might change the originals.
  const GemmRow* const rows = args.rows + first;
  int32_t* const acc = args.acc[column];
  const bool fresh = args.fresh, clipped = args.clip != nullptr;
  for (size_t r = 0; r < count; ++r) {
    int32_t* const out = acc + rows[r].dst;
    Vec sum = T::Add(init, T::Load(sums[r]));
    if (!fresh) sum = T::Add(sum, T::Load(out));
    for (const GemmDiagonal* d = diagonal; d != end; ++d) {
      if (d->column != column) continue;
      const Vec x = T::Widen(d->inp + d->rows[first + r].src);
      sum = T::Add(sum, T::Mul(x, T::Load(d->factors)));
    }
    if (clipped) sum = T::Min(T::Max(T::Shr(sum, clip.shift), low), high);
    T::Store(out, sum);
  }
}

template <typename T, size_t kTapPieces>
inline void TileGemmOf(const GemmArgs& args) {
  TileBuffers buffers;
  const size_t count = args.row_count < kTileRows ? args.row_count : kTileRows;
  // The last tile has as many rows as the others: some of them again.
  const auto begin = [&](size_t first) {
    return first + count < args.row_count ? first : args.row_count - count;
  };
  for (size_t first = 0; first < args.row_count; first += 2 * kTileRows) {
    const size_t second = first + kTileRows;
    const TileRowsOf rows = {{begin(first), begin(second)}, count};
    const int tall = second < args.row_count ? 2 : 1;
    if (tall == 2) {
      SumRows<T, kTapPieces, 2>(args, rows, &buffers);
    } else {
      SumRows<T, kTapPieces, 1>(args, rows, &buffers);
    }
    for (size_t c = 0; c < args.columns; ++c) {
      for (int i = 0; i < tall; ++i) {
        const size_t again = first + static_cast<size_t>(i) * kTileRows - rows.first[i];
        FinishRows<T>(args, rows.first[i] + again, count - again, c, &buffers.sums[i][c][again]);
      }
    }
  }
}

template <typename T>
void TileGemm(const GemmArgs& args) {
  if (args.block == 16) return TileGemmOf<T, 1>(args);
  if (args.block == 32) return TileGemmOf<T, 2>(args);
  return TileGemmOf<T, kPieces>(args);
}

}  // namespace
}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_AMX_H_
