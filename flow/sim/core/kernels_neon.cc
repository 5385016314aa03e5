// NEON of every 64-bit ARM: int16 lanes, smull and a pairwise addition for pairs of input lanes.
#include "kernels_neon.h"

namespace vta {
namespace {

struct NeonWide : Neon {
  static constexpr size_t kInpBytes = 2;
  static Vec Dot(Vec sum, Vec x, Vec w) {
    const int16x8_t a = vreinterpretq_s16_s32(x), b = vreinterpretq_s16_s32(w);
    return vaddq_s32(sum,
                     vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b)));
  }
  static Vec Widen(const uint8_t* p) {
    return vmovl_s16(vld1_s16(reinterpret_cast<const int16_t*>(p)));
  }
};

}  // namespace

const Kernels kNeonKernels = {"neon",
                              2,
                              0,
                              PackedWgtBytes<NeonWide>,
                              false,
                              WidenInp,
                              PackVectorWgt<NeonWide>,
                              VectorGemm<NeonWide>,
                              Alu,
                              Narrow,
                              Unpack4,
                              Narrow4};

}  // namespace vta
