// AVX2: int16 pairs, vpmaddwd, 8 output lanes a vector, two vectors a column.
#include <immintrin.h>

#include "kernels_gemm.h"

namespace vta {
namespace {

struct Avx2 {
  using Vec = __m256i;
  static constexpr int kLanes = 8;
  static constexpr int kRows = 6;
  static constexpr int kColumns = 1;
  static constexpr size_t kTogether = 1;
  static constexpr size_t kInpBytes = 2;
  static constexpr int32_t kOffset = 0;
  static Vec Load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const Vec*>(p)); }
  static void Store(int32_t* p, Vec v) { _mm256_storeu_si256(reinterpret_cast<Vec*>(p), v); }
  static Vec Broadcast(const uint8_t* p) {
    int32_t value;
    __builtin_memcpy(&value, p, 4);
    return _mm256_set1_epi32(value);
  }
  static Vec Add(Vec a, Vec b) { return _mm256_add_epi32(a, b); }
  static Vec Mul(Vec a, Vec b) { return _mm256_mullo_epi32(a, b); }
  static Vec Shr(Vec a, int32_t n) { return _mm256_sra_epi32(a, _mm_cvtsi32_si128(n)); }
  static Vec Min(Vec a, Vec b) { return _mm256_min_epi32(a, b); }
  static Vec Max(Vec a, Vec b) { return _mm256_max_epi32(a, b); }
  static Vec Set(int32_t value) { return _mm256_set1_epi32(value); }
  static Vec Widen(const uint8_t* p) {
    return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Vec Dot(Vec sum, Vec x, Vec w) { return Add(sum, _mm256_madd_epi16(x, w)); }
};

}  // namespace

const Kernels kAvx2Kernels = {"avx2",
                              2,
                              0,
                              PackedWgtBytes<Avx2>,
                              false,
                              WidenInp,
                              PackVectorWgt<Avx2>,
                              VectorGemm<Avx2>,
                              Alu,
                              Narrow,
                              Unpack4,
                              Narrow4};

}  // namespace vta
