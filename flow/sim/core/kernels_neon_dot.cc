// NEON with the dot-product instruction of Armv8.2 (sdot): four int8 input lanes and four output
// lanes an instruction.
#include "kernels_neon.h"

namespace vta {
namespace {

struct NeonDot : Neon {
  static constexpr size_t kInpBytes = 1;
  static Vec Dot(Vec sum, Vec x, Vec w) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(w));
  }
  static Vec Widen(const uint8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, 4);
    const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(four));
    return vmovl_s16(vget_low_s16(vmovl_s8(bytes)));
  }
};

}  // namespace

const Kernels kNeonDotKernels = {"neon_dot",
                                 1,
                                 0,
                                 PackedWgtBytes<NeonDot>,
                                 false,
                                 CopyInp,
                                 PackVectorWgt<NeonDot>,
                                 VectorGemm<NeonDot>,
                                 Alu,
                                 Narrow,
                                 Unpack4,
                                 Narrow4};

}  // namespace vta
