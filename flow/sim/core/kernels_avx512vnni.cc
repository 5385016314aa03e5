// AVX-512 VNNI: vpdpbusd on uint8 (inp + 128) and int8 (wgt), four input lanes and 16 output lanes
// an instruction. The 128 added to every inp lane is taken back by a correction of each wgt
// element; exact modulo 2^32.
#include "kernels_avx512.h"

namespace vta {
namespace {

struct Vnni : Avx512 {
  static constexpr size_t kInpBytes = 1;
  static constexpr int kRows = 20;
  static constexpr size_t kTogether = 4;
  static constexpr int32_t kOffset = 128;
  static Vec Dot(Vec sum, Vec x, Vec w) { return _mm512_dpbusd_epi32(sum, x, w); }
  static Vec Widen(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
};

void PackInp(const uint8_t* from, uint8_t* to, size_t lanes) { CopyFlipped(from, to, lanes, 0x80); }

// Transposes the 16 x 4 matrix of 4-byte chunks of a 16 x 16 element, and derives the corrections.
void PackWgt16(const uint8_t* from, uint8_t* to, int32_t* corrections) {
  const __m512i r0 = _mm512_loadu_si512(from), r1 = _mm512_loadu_si512(from + 64);
  const __m512i r2 = _mm512_loadu_si512(from + 128), r3 = _mm512_loadu_si512(from + 192);
  // Chunks 0 and 1 of eight rows, then chunks 2 and 3.
  const __m512i low = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
  const __m512i high =
      _mm512_setr_epi32(2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
  const __m512i a01 = _mm512_permutex2var_epi32(r0, low, r1);
  const __m512i b01 = _mm512_permutex2var_epi32(r2, low, r3);
  const __m512i a23 = _mm512_permutex2var_epi32(r0, high, r1);
  const __m512i b23 = _mm512_permutex2var_epi32(r2, high, r3);
  const __m512i first = _mm512_setr_epi64(0, 1, 2, 3, 8, 9, 10, 11);
  const __m512i second = _mm512_setr_epi64(4, 5, 6, 7, 12, 13, 14, 15);
  const __m512i c[4] = {
      _mm512_permutex2var_epi64(a01, first, b01), _mm512_permutex2var_epi64(a01, second, b01),
      _mm512_permutex2var_epi64(a23, first, b23), _mm512_permutex2var_epi64(a23, second, b23)};
  const __m512i bias = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i sum = _mm512_setzero_si512();
  for (int j = 0; j < 4; ++j) {
    _mm512_storeu_si512(to + 64 * j, c[j]);
    sum = _mm512_dpbusd_epi32(sum, bias, c[j]);
  }
  _mm512_storeu_si512(corrections, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
}

void PackWgt(const uint8_t* from, uint8_t* to, size_t block, int32_t* corrections) {
  if (block == 16) return PackWgt16(from, to, corrections);
  PackVectorWgt<Vnni>(from, to, block, corrections);
}

}  // namespace

const Kernels kAvx512vnniKernels = {"avx512vnni", 1,
                                    0x80,         PackedWgtBytes<Vnni>,
                                    true,         PackInp,
                                    PackWgt,      VectorGemm<Vnni>,
                                    Alu,          NarrowVectors,
                                    Unpack4,      Narrow4};

}  // namespace vta
