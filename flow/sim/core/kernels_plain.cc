// The portable kernels: any processor, any block. inp is int16[block]; a column of wgt is
// int16[block_in][lanes], transposed, so that the inner loop runs over output lanes.
#include "kernels_common.h"

namespace vta {
namespace {

size_t WgtBytes(size_t block) {
  const size_t bytes = block * block * sizeof(int16_t);
  return bytes < kLineBytes ? kLineBytes : bytes;
}

void PackWgt(const uint8_t* from, uint8_t* to, size_t block, int32_t*) {
  int16_t* wide = reinterpret_cast<int16_t*>(to);
  const size_t lanes = block < kColumn ? block : kColumn;
  for (size_t lane = 0; lane < block; lane += lanes) {
    for (size_t i = 0; i < block; ++i) {
      for (size_t o = lane; o < lane + lanes; ++o) {
        *wide++ = static_cast<int16_t>(SignExtend(from[o * block + i]));
      }
    }
  }
}

// One row of a column.
template <size_t kLanes>
void GemmRowColumn(const GemmArgs& args, size_t row, size_t column) {
  int32_t* out = args.acc[column] + args.rows[row].dst;
  uint32_t sum[kLanes];
  for (size_t o = 0; o < kLanes; ++o) {
    sum[o] = static_cast<uint32_t>(args.init[column][o]);
    if (!args.fresh) sum[o] += static_cast<uint32_t>(out[o]);
  }
  for (size_t n = 0; n < args.term_count; ++n) {
    const GemmTerm& term = args.terms[n];
    for (size_t t = 0; t < term.tap_count; ++t) {
      const size_t line = term.wgt[t * args.columns + column];
      const int16_t* x =
          reinterpret_cast<const int16_t*>(term.inp + term.rows[row].src + term.src[t]);
      const int16_t* w = reinterpret_cast<const int16_t*>(args.wgt + line * kLineBytes);
      for (size_t i = 0; i < args.block; ++i, w += kLanes) {
        for (size_t o = 0; o < kLanes; ++o) sum[o] += static_cast<uint32_t>(x[i] * w[o]);
      }
    }
  }
  for (size_t n = 0; n < args.diagonal_count; ++n) {
    const GemmDiagonal& d = args.diagonals[n];
    if (d.column != column) continue;
    const int16_t* x = reinterpret_cast<const int16_t*>(d.inp + d.rows[row].src);
    for (size_t o = 0; o < kLanes; ++o) {
      sum[o] += static_cast<uint32_t>(x[o]) * static_cast<uint32_t>(d.factors[o]);
    }
  }
  for (size_t o = 0; o < kLanes; ++o) {
    int32_t a = Wrap(sum[o]);
    if (args.clip != nullptr) {
      a >>= args.clip->shift;
      a = a > args.clip->low ? a : args.clip->low;
      a = a < args.clip->high ? a : args.clip->high;
    }
    out[o] = a;
  }
}

template <size_t kLanes>
void GemmRows(const GemmArgs& args) {
  for (size_t column = 0; column < args.columns; ++column) {
    for (size_t row = 0; row < args.row_count; ++row) GemmRowColumn<kLanes>(args, row, column);
  }
}

void Gemm(const GemmArgs& args) {
  if (args.block == 4) return GemmRows<4>(args);
  if (args.block == 8) return GemmRows<8>(args);
  return GemmRows<16>(args);
}

}  // namespace

const Kernels kPlainKernels = {"plain", 2,    0,   WgtBytes, false,   WidenInp,
                               PackWgt, Gemm, Alu, Narrow,   Unpack4, Narrow4};

}  // namespace vta
