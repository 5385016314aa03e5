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
  static Vec Load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static void Store(int32_t* p, Vec v) { _mm512_storeu_si512(p, v); }
  static Vec Broadcast(const uint8_t* p) {
    int32_t value;
    __builtin_memcpy(&value, p, 4);
    return _mm512_set1_epi32(value);
  }
  static Vec Add(Vec a, Vec b) { return _mm512_add_epi32(a, b); }
  static Vec Zero() { return _mm512_setzero_si512(); }
};

}  // namespace
}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_AVX512_H_
