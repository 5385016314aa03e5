// AVX-512BW: int16 pairs, vpmaddwd, 16 output lanes a vector.
#include "kernels_avx512.h"

namespace vta {
namespace {

struct Avx512bw : Avx512 {
  static constexpr size_t kInpBytes = 2;
  static constexpr int kRows = 16;
  static constexpr size_t kTogether = 1;
  static constexpr int32_t kOffset = 0;
  static Vec Dot(Vec sum, Vec x, Vec w) { return Add(sum, _mm512_madd_epi16(x, w)); }
  static Vec Widen(const uint8_t* p) {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
};

}  // namespace

const Kernels kAvx512bwKernels = {"avx512bw",
                                  2,
                                  0,
                                  PackedWgtBytes<Avx512bw>,
                                  false,
                                  WidenInp,
                                  PackVectorWgt<Avx512bw>,
                                  VectorGemm<Avx512bw>,
                                  Alu,
                                  NarrowVectors,
                                  Unpack4,
                                  Narrow4};

}  // namespace vta
