// What the two AVX-512 kernels share.
#ifndef FLOW_SIM_CORE_KERNELS_AVX512_H_
#define FLOW_SIM_CORE_KERNELS_AVX512_H_

#include <immintrin.h>

#include "kernels_gemm.h"

namespace vta {
namespace {

struct Avx512 {
  using Vec = __m512i;
  static constexpr int kLanes = 16;
  static constexpr int kRows = 8;
  static constexpr int kColumns = 2;
  static Vec Load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static void Store(int32_t* p, Vec v) { _mm512_storeu_si512(p, v); }
  static Vec Broadcast(const uint8_t* p) {
    int32_t value;
    __builtin_memcpy(&value, p, 4);
    return _mm512_set1_epi32(value);
  }
  static Vec Add(Vec a, Vec b) { return _mm512_add_epi32(a, b); }
  static Vec Mul(Vec a, Vec b) { return _mm512_mullo_epi32(a, b); }
  static Vec Shr(Vec a, int32_t n) { return _mm512_sra_epi32(a, _mm_cvtsi32_si128(n)); }
  static Vec Min(Vec a, Vec b) { return _mm512_min_epi32(a, b); }
  static Vec Max(Vec a, Vec b) { return _mm512_max_epi32(a, b); }
  static Vec Set(int32_t value) { return _mm512_set1_epi32(value); }
};

}  // namespace
}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_AVX512_H_
