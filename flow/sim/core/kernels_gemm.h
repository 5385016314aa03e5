// The vector GEMM, parameterised by a processor's vector type. A packed wgt element is, for each
// column of 16 output lanes, for each 4-byte chunk of input lanes: that chunk of each output lane.
// So one broadcast of a 4-byte chunk of inp and a dot-product instruction a vector advance a
// column.
//
// T provides: Vec, kLanes (int32 lanes), kInpBytes (bytes of an inp lane: 1 or 2, int16), kOffset
// (what is added to an inp lane of one byte: 128 where it is uint8), kRows (rows of one column
// whose sums are kept in registers), kColumns (columns at a time), kTogether (chunks of a block of
// 16 whose wgt are in registers at a time), Load, Store, Broadcast (4 bytes), Dot(sum, inp, wgt),
// Widen (inp lanes to int32), Add, Mul, Shr, Min, Max, Set, Zero. With an offset each wgt element
// ends in int32[block] corrections, -offset times the sum of the row, which undo it.
#ifndef FLOW_SIM_CORE_KERNELS_GEMM_H_
#define FLOW_SIM_CORE_KERNELS_GEMM_H_

#include "kernels_common.h"

namespace vta {
namespace {

// What is multiplied after columns `column` .. column + columns of a term: for each of its taps,
// `columns` lines, `stride` apart from those of the tap before. Null: unknown.
struct Ahead {
  const uint32_t* wgt;
  size_t stride;
};

inline Ahead AheadOf(const GemmArgs& args, size_t term, size_t column, size_t columns) {
  const GemmTerm& own = args.terms[term];
  if (column + 2 * columns <= args.columns) return {own.wgt + column + columns, args.columns};
  const GemmArgs* const next = args.next;
  if (next == nullptr || next->columns < columns || term >= next->term_count ||
      next->terms[term].tap_count < own.tap_count) {
    return {nullptr, 0};
  }
  return {next->terms[term].wgt, next->columns};
}

// Block of rows `block`, first .. first + kRows, of kColumns columns from `column`; sums stay in
// registers.
// kChunks 0 takes the number of chunks from the block.
template <typename T, int kRows, int kColumns, int kChunks>
inline void GemmBlock(const GemmArgs& args, size_t first, size_t block, size_t column) {
  using Vec = typename T::Vec;
  constexpr int kPer = static_cast<int>(kColumn) / T::kLanes;  // vectors a column
  constexpr int kVecs = kColumns * kPer;
  constexpr size_t kVecBytes = size_t{T::kLanes} * 4;
  const size_t chunks = kChunks != 0 ? size_t{kChunks} : args.block * T::kInpBytes / 4;
  constexpr size_t kTogether = kChunks != 0 ? T::kTogether : 1;
  int32_t* out[kColumns];
  for (int c = 0; c < kColumns; ++c) out[c] = args.acc[column + static_cast<size_t>(c)];
  const GemmRow* rows = args.rows + first;
  Vec sum[kRows][kVecs];
  for (int v = 0; v < kVecs; ++v) {
    const int32_t* init = args.init[column + static_cast<size_t>(v / kPer)];
    sum[0][v] = T::Load(init + v % kPer * T::kLanes);
    for (int p = 1; p < kRows; ++p) sum[p][v] = sum[0][v];
  }
  if (!args.fresh) {
    for (int p = 0; p < kRows; ++p) {
      for (int v = 0; v < kVecs; ++v) {
        sum[p][v] = T::Add(sum[p][v], T::Load(out[v / kPer] + rows[p].dst + v % kPer * T::kLanes));
      }
    }
  }
  for (size_t n = 0; n < args.term_count; ++n) {
    const GemmTerm& term = args.terms[n];
    Ahead ahead = AheadOf(args, n, column, kColumns);
    const GemmRow* from = term.rows + first;
    const uint32_t* wgt = term.wgt + column;
    for (size_t t = 0; t < term.tap_count; ++t, wgt += args.columns) {
      // Read again for each tap: kept in registers, they crowd out the pointers below.
      asm("" : "+r"(from));
      // One line of an element for each block of rows, as far as there are any.
      if (ahead.wgt != nullptr && block < chunks) {
        for (int c = 0; c < kColumns; ++c) {
          __builtin_prefetch(args.wgt + (size_t{ahead.wgt[c]} + block) * kLineBytes);
        }
        ahead.wgt += ahead.stride;
      }
      const uint8_t* w[kColumns];
      for (int c = 0; c < kColumns; ++c) {
        w[c] = args.wgt + size_t{wgt[c]} * kLineBytes;
      }
      // For chunks that come one at a time; else each row's pointer is used once.
      const uint8_t* const inp = term.inp + term.src[t];
      const uint8_t* x[kRows];
      for (int p = 0; p < kRows; ++p) x[p] = inp + from[p].src;
      for (size_t j = 0; j < chunks; j += kTogether) {
        Vec wv[kTogether][kVecs];
        for (size_t i = 0; i < kTogether; ++i) {
          for (int v = 0; v < kVecs; ++v) {
            wv[i][v] = T::Load(reinterpret_cast<const int32_t*>(
                w[v / kPer] + (j + i) * kLineBytes + static_cast<size_t>(v % kPer) * kVecBytes));
          }
        }
        for (int p = 0; p < kRows; ++p) {
          const uint8_t* const xp = kTogether == 1 ? x[p] : inp + from[p].src;
          for (size_t i = 0; i < kTogether; ++i) {
            const Vec xv = T::Broadcast(xp + (j + i) * 4);
            for (int v = 0; v < kVecs; ++v) sum[p][v] = T::Dot(sum[p][v], xv, wv[i][v]);
          }
        }
      }
    }
  }
  for (size_t n = 0; n < args.diagonal_count; ++n) {
    const GemmDiagonal& d = args.diagonals[n];
    for (int v = 0; v < kVecs; ++v) {
      if (d.column != column + static_cast<size_t>(v / kPer)) continue;
      const int lane = v % kPer * T::kLanes;
      const Vec factors = T::Load(d.factors + lane);
      for (int p = 0; p < kRows; ++p) {
        const uint8_t* x = d.inp + d.rows[first + static_cast<size_t>(p)].src +
                           static_cast<size_t>(lane) * T::kInpBytes;
        sum[p][v] = T::Add(sum[p][v], T::Mul(T::Widen(x), factors));
      }
    }
  }
  if (args.clip != nullptr) {
    const Vec low = T::Set(args.clip->low), high = T::Set(args.clip->high);
    for (int p = 0; p < kRows; ++p) {
      for (int v = 0; v < kVecs; ++v) {
        sum[p][v] = T::Min(T::Max(T::Shr(sum[p][v], args.clip->shift), low), high);
      }
    }
  }
  for (int p = 0; p < kRows; ++p) {
    for (int v = 0; v < kVecs; ++v) {
      T::Store(out[v / kPer] + rows[p].dst + v % kPer * T::kLanes, sum[p][v]);
    }
  }
}

template <typename T, int kRows, int kColumns, int kChunks>
inline void GemmAnyRows(const GemmArgs& args, size_t first, size_t rows, size_t block,
                        size_t column) {
  if (rows == kRows) return GemmBlock<T, kRows, kColumns, kChunks>(args, first, block, column);
  if constexpr (kRows > 1) {
    return GemmAnyRows<T, kRows - 1, kColumns, kChunks>(args, first, rows, block, column);
  }
}

// As few blocks of rows as registers allow, all of nearly the same size: 49 rows are 7 times 7.
template <typename T, int kColumns, int kChunks>
inline void GemmColumns(const GemmArgs& args, size_t column) {
  if (args.row_count == 0) return;
  constexpr int kRows = T::kRows / kColumns;
  const size_t blocks = (args.row_count + kRows - 1) / kRows;
  const size_t least = args.row_count / blocks, more = args.row_count % blocks;
  for (size_t b = 0, first = 0; b < blocks; ++b) {
    const size_t rows = least + (b < more ? 1 : 0);
    GemmAnyRows<T, kRows, kColumns, kChunks>(args, first, rows, b, column);
    first += rows;
  }
}

template <typename T, int kChunks>
inline void GemmChunks(const GemmArgs& args) {
  size_t column = 0;
  if constexpr (T::kColumns == 2) {
    for (; column + 2 <= args.columns; column += 2) GemmColumns<T, 2, kChunks>(args, column);
  }
  for (; column < args.columns; ++column) {
    GemmColumns<T, 1, kChunks>(args, column);
  }
}

template <typename T>
void VectorGemm(const GemmArgs& args) {
  constexpr int kOf16 = 16 * static_cast<int>(T::kInpBytes) / 4;
  if (args.block == 16) return GemmChunks<T, kOf16>(args);
  return GemmChunks<T, 0>(args);
}

template <typename T>
size_t PackedWgtBytes(size_t block) {
  return block * block * T::kInpBytes;
}

// Packs one wgt element of a block of at least 16.
template <typename T>
inline void PackVectorWgt(const uint8_t* from, uint8_t* to, size_t block, int32_t* corrections) {
  (void)corrections;
  constexpr size_t kPer = 4 / T::kInpBytes;  // input lanes a chunk
  uint8_t* at = to;
  for (size_t lane = 0; lane < block; lane += kColumn) {
    for (size_t i = 0; i < block; i += kPer) {
      for (size_t o = lane; o < lane + kColumn; ++o, at += 4) {
        const uint8_t* chunk = from + o * block + i;
        if constexpr (T::kInpBytes == 1) {
          __builtin_memcpy(at, chunk, 4);
        } else {
          const int16_t wide[2] = {static_cast<int16_t>(SignExtend(chunk[0])),
                                   static_cast<int16_t>(SignExtend(chunk[1]))};
          __builtin_memcpy(at, wide, 4);
        }
      }
    }
  }
  if constexpr (T::kOffset != 0) {
    for (size_t o = 0; o < block; ++o) {
      int32_t sum = 0;
      for (size_t i = 0; i < block; ++i) sum += SignExtend(from[o * block + i]);
      corrections[o] = -T::kOffset * sum;
    }
  }
}

}  // namespace
}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_GEMM_H_
