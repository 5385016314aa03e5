// The vector GEMM, parameterised by a processor's vector type. A packed wgt element is, for each
// group of kGroup vectors of output lanes, for each 4-byte chunk of input lanes, for each output
// lane of the group: that chunk. So one broadcast of a 4-byte chunk of inp and one dot-product
// instruction advance a whole vector of output lanes.
//
// T provides: Vec, kLanes (int32 lanes), kInpBytes (bytes of an inp lane: 1 = uint8 with 128 added,
// 2 = int16), Load, Store, Broadcast (4 bytes), Dot(sum, inp, wgt), Add, Zero. With kInpBytes 1
// each wgt element ends in int32[block] corrections, -128 times the sum of the row, which undo the
// 128 added to inp.
#ifndef FLOW_SIM_CORE_KERNELS_GEMM_H_
#define FLOW_SIM_CORE_KERNELS_GEMM_H_

#include "kernels_common.h"

namespace vta {
namespace {

// Rows kRows at a time keep kRows x kVecs sums in registers; kChunks 0 takes the number of chunks
// from the block.
template <typename T, int kRows, int kVecs, int kChunks>
inline void GemmBlock(const GemmArgs& args, const GemmRow* rows, size_t lane) {
  using Vec = typename T::Vec;
  const size_t chunks = kChunks != 0 ? size_t{kChunks} : args.block * T::kInpBytes / 4;
  constexpr size_t kStep = size_t{kVecs} * T::kLanes * 4;
  const uint8_t* x[kRows];
  int32_t* out[kRows];
  Vec sum[kRows][kVecs];
  for (int p = 0; p < kRows; ++p) {
    x[p] = args.inp + rows[p].src;
    out[p] = args.acc + rows[p].dst + lane;
    for (int v = 0; v < kVecs; ++v) sum[p][v] = T::Load(out[p] + v * T::kLanes);
  }
  Vec correction[kVecs];
  if constexpr (T::kInpBytes == 1) {
    for (int v = 0; v < kVecs; ++v) correction[v] = T::Zero();
  }
  const size_t group_offset = lane * 4 * chunks;
  const size_t correction_offset = args.block * chunks * 4 + lane * 4;
  for (size_t t = 0; t < args.tap_count; ++t) {
    const ptrdiff_t src = args.taps[t].src;
    const uint8_t* element = args.wgt + args.taps[t].wgt;
    const uint8_t* w = element + group_offset;
    for (size_t j = 0; j < chunks; ++j, w += kStep) {
      Vec wv[kVecs];
      for (int v = 0; v < kVecs; ++v)
        wv[v] = T::Load(reinterpret_cast<const int32_t*>(w) + v * T::kLanes);
      for (int p = 0; p < kRows; ++p) {
        const Vec xv = T::Broadcast(x[p] + src + static_cast<ptrdiff_t>(j * 4));
        for (int v = 0; v < kVecs; ++v) sum[p][v] = T::Dot(sum[p][v], xv, wv[v]);
      }
    }
    if constexpr (T::kInpBytes == 1) {
      const int32_t* c = reinterpret_cast<const int32_t*>(element + correction_offset);
      for (int v = 0; v < kVecs; ++v)
        correction[v] = T::Add(correction[v], T::Load(c + v * T::kLanes));
    }
  }
  for (int p = 0; p < kRows; ++p) {
    for (int v = 0; v < kVecs; ++v) {
      if constexpr (T::kInpBytes == 1) sum[p][v] = T::Add(sum[p][v], correction[v]);
      T::Store(out[p] + v * T::kLanes, sum[p][v]);
    }
  }
}

template <typename T, int kRows, int kVecs, int kChunks>
inline void GemmRows(const GemmArgs& args) {
  const size_t group = size_t{kVecs} * T::kLanes;
  for (size_t lane = 0; lane < args.block; lane += group) {
    const GemmRow* row = args.rows;
    size_t left = args.row_count;
    for (; left >= kRows; left -= kRows, row += kRows) {
      GemmBlock<T, kRows, kVecs, kChunks>(args, row, lane);
    }
    if constexpr (kRows > 4) {
      for (; left >= 4; left -= 4, row += 4) GemmBlock<T, 4, kVecs, kChunks>(args, row, lane);
    }
    for (; left >= 2; left -= 2, row += 2) GemmBlock<T, 2, kVecs, kChunks>(args, row, lane);
    for (; left >= 1; --left, ++row) GemmBlock<T, 1, kVecs, kChunks>(args, row, lane);
  }
}

template <typename T>
size_t PackedWgtBytes(size_t block) {
  return block * block * T::kInpBytes + (T::kInpBytes == 1 ? block * 4 : 0);
}

// Packs one wgt element, `group` output lanes at a time.
template <typename T>
inline void PackWgtGroups(const uint8_t* from, uint8_t* to, size_t block, size_t group) {
  constexpr size_t kPer = 4 / T::kInpBytes;  // input lanes a chunk
  uint8_t* at = to;
  for (size_t lane = 0; lane < block; lane += group) {
    for (size_t i = 0; i < block; i += kPer) {
      for (size_t o = lane; o < lane + group; ++o, at += 4) {
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
  if constexpr (T::kInpBytes == 1) {
    int32_t* correction = reinterpret_cast<int32_t*>(at);
    for (size_t o = 0; o < block; ++o) {
      int32_t sum = 0;
      for (size_t i = 0; i < block; ++i) sum += SignExtend(from[o * block + i]);
      correction[o] = -128 * sum;
    }
  }
}

}  // namespace
}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_GEMM_H_
