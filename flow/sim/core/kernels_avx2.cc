// AVX2: int16 pairs, vpmaddwd, 8 output lanes a vector, two vectors a group.
#include <immintrin.h>

#include "kernels_gemm.h"

namespace vta {
namespace {

struct Avx2 {
  using Vec = __m256i;
  static constexpr int kLanes = 8;
  static constexpr size_t kInpBytes = 2;
  static Vec Load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const Vec*>(p)); }
  static void Store(int32_t* p, Vec v) { _mm256_storeu_si256(reinterpret_cast<Vec*>(p), v); }
  static Vec Broadcast(const uint8_t* p) {
    int32_t value;
    __builtin_memcpy(&value, p, 4);
    return _mm256_set1_epi32(value);
  }
  static Vec Add(Vec a, Vec b) { return _mm256_add_epi32(a, b); }
  static Vec Zero() { return _mm256_setzero_si256(); }
  static Vec Dot(Vec sum, Vec x, Vec w) { return Add(sum, _mm256_madd_epi16(x, w)); }
};

void PackWgt(const uint8_t* from, uint8_t* to, size_t block) {
  PackWgtGroups<Avx2>(from, to, block, 16);
}

void Gemm(const GemmArgs& args) {
  if (args.block == 16) return GemmRows<Avx2, 4, 2, 8>(args);
  if (args.block == 32) return GemmRows<Avx2, 4, 2, 16>(args);
  return GemmRows<Avx2, 4, 2, 0>(args);
}

}  // namespace

const Kernels kAvx2Kernels = {
    "avx2", 2, 0, PackedWgtBytes<Avx2>, WidenInp, PackWgt, Gemm, Alu, Narrow, Unpack4, Narrow4};

}  // namespace vta
