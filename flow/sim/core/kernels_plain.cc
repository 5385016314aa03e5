// The portable kernels: any processor, any block. inp is int16[block]; wgt is
// int16[block_in][block_out], transposed, so that the inner loop runs over output lanes.
#include "kernels_common.h"

namespace vta {
namespace {

size_t WgtBytes(size_t block) { return block * block * sizeof(int16_t); }

void PackWgt(const uint8_t* from, uint8_t* to, size_t block) {
  int16_t* wide = reinterpret_cast<int16_t*>(to);
  for (size_t o = 0; o < block; ++o) {
    for (size_t i = 0; i < block; ++i) {
      wide[i * block + o] = static_cast<int16_t>(SignExtend(from[o * block + i]));
    }
  }
}

// Sums kLanes output lanes at a time, so that they stay in registers.
template <size_t kLanes>
void Gemm(const GemmArgs& args) {
  const size_t block = args.block;
  for (size_t r = 0; r < args.row_count; ++r) {
    for (size_t lane = 0; lane < block; lane += kLanes) {
      int32_t* out = args.acc + args.rows[r].dst + lane;
      uint32_t sum[kLanes];
      for (size_t o = 0; o < kLanes; ++o) sum[o] = static_cast<uint32_t>(out[o]);
      for (size_t t = 0; t < args.tap_count; ++t) {
        const int16_t* x =
            reinterpret_cast<const int16_t*>(args.inp + args.rows[r].src + args.taps[t].src);
        const int16_t* w = reinterpret_cast<const int16_t*>(args.wgt + args.taps[t].wgt) + lane;
        for (size_t i = 0; i < block; ++i, w += block) {
          for (size_t o = 0; o < kLanes; ++o) sum[o] += static_cast<uint32_t>(x[i] * w[o]);
        }
      }
      for (size_t o = 0; o < kLanes; ++o) out[o] = Wrap(sum[o]);
    }
  }
}

void GemmAnyBlock(const GemmArgs& args) {
  if (args.block == 4) return Gemm<4>(args);
  if (args.block == 8) return Gemm<8>(args);
  return Gemm<16>(args);
}

}  // namespace

const Kernels kPlainKernels = {"plain",      2,   0,      WgtBytes, WidenInp, PackWgt,
                               GemmAnyBlock, Alu, Narrow, Unpack4,  Narrow4};

}  // namespace vta
