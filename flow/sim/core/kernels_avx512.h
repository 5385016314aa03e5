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

// to[i] = from[i] ^ flip, 64 bytes at a time.
inline void CopyFlipped(const uint8_t* from, uint8_t* to, size_t bytes, uint8_t flip) {
  const __m512i flips = _mm512_set1_epi8(static_cast<char>(flip));
  for (; bytes >= 64; bytes -= 64, from += 64, to += 64) {
    _mm512_storeu_si512(to, _mm512_xor_si512(_mm512_loadu_si512(from), flips));
  }
  if (bytes == 0) return;
  const __mmask64 rest = ~uint64_t{0} >> (64 - bytes);
  _mm512_mask_storeu_epi8(to, rest, _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, from), flips));
}

// As Narrow, 16 lanes at a time.
inline void NarrowVectors(const int32_t* from, uint8_t* to, size_t lanes) {
  for (; lanes >= 16; lanes -= 16, from += 16, to += 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm512_cvtepi32_epi8(_mm512_loadu_si512(from)));
  }
  Narrow(from, to, lanes);
}

}  // namespace
}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_AVX512_H_
