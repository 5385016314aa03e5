// AMX: tdpbssd on tiles of int8, 16 x 16 sums of 64 products an instruction.
#include "kernels_amx.h"

#include "kernels_avx512.h"

namespace vta {
namespace {

// The intrinsics do not tell compilers that they read and write memory.
struct HardwareTiles : Avx512 {
  using Avx512::Load;
  using Avx512::Store;
  static void Begin() {
    static constexpr TileConfig kConfig;
    asm volatile("ldtilecfg %0" : : "m"(kConfig));
  }
  static void End() { asm volatile("tilerelease"); }
  template <int kTile>
  static void Zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  static void Load(const void* from, size_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  static void Store(void* to, size_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kSum, int kA, int kB>
  static void Dot() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
  }
  static Vec Widen(const uint8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  template <size_t kCount>
  static void Join(const uint8_t* const (&pieces)[kCount], uint8_t* to) {
    const auto load = [](const uint8_t* p) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    };
    __m512i row = _mm512_zextsi128_si512(load(pieces[0]));
    if constexpr (kCount > 1) row = _mm512_inserti32x4(row, load(pieces[1]), 1);
    if constexpr (kCount > 2) row = _mm512_inserti32x4(row, load(pieces[2]), 2);
    if constexpr (kCount > 3) row = _mm512_inserti32x4(row, load(pieces[3]), 3);
    _mm512_store_si512(to, row);
  }
};

}  // namespace

const Kernels kAmxKernels = {"amx",
                             1,
                             0,
                             PackedWgtBytes<AmxLanes>,
                             false,
                             CopyInp,
                             PackVectorWgt<AmxLanes>,
                             TileGemm<HardwareTiles>,
                             Alu,
                             NarrowVectors,
                             Unpack4,
                             Narrow4,
                             HardwareTiles::Begin,
                             HardwareTiles::End};

}  // namespace vta
