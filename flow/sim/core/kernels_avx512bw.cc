// AVX-512BW: int16 pairs, vpmaddwd, 16 output lanes a vector.
#include "kernels_avx512.h"

namespace vta {
namespace {

struct Avx512bw : Avx512 {
  static constexpr size_t kInpBytes = 2;
  static Vec Dot(Vec sum, Vec x, Vec w) { return Add(sum, _mm512_madd_epi16(x, w)); }
};

void PackWgt(const uint8_t* from, uint8_t* to, size_t block) {
  PackWgtGroups<Avx512bw>(from, to, block, block == 16 ? 16 : 32);
}

void Gemm(const GemmArgs& args) {
  if (args.block == 16) return GemmRows<Avx512bw, 8, 1, 8>(args);
  if (args.block == 32) return GemmRows<Avx512bw, 8, 2, 16>(args);
  return GemmRows<Avx512bw, 8, 2, 0>(args);
}

}  // namespace

const Kernels kAvx512bwKernels = {"avx512bw", 2,       0,      PackedWgtBytes<Avx512bw>,
                                  WidenInp,   PackWgt, Gemm,   Alu,
                                  Narrow,     Unpack4, Narrow4};

}  // namespace vta
