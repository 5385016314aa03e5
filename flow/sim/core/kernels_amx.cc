// AMX: tdpbssd on tiles of int8, 16 x 16 sums of 64 products an instruction.
#include "kernels_amx.h"

#include "kernels_avx512.h"

namespace vta {
namespace {

// The intrinsics do not tell compilers that they read and write memory.
struct HardwareTiles {
  static void Begin() {
    static const TileConfig config;
    asm volatile("ldtilecfg %0" : : "m"(config));
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
                             Narrow4};

}  // namespace vta
