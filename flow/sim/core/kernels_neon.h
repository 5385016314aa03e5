// What the two NEON kernels share: vectors of four output lanes, four of them a column.
#ifndef FLOW_SIM_CORE_KERNELS_NEON_H_
#define FLOW_SIM_CORE_KERNELS_NEON_H_

#include <arm_neon.h>

#include "kernels_gemm.h"

namespace vta {
namespace {

struct Neon {
  using Vec = int32x4_t;
  static constexpr int kLanes = 4;
  static constexpr int kRows = 5;
  static constexpr int kColumns = 1;
  static constexpr size_t kTogether = 1;
  static constexpr int32_t kOffset = 0;
  static Vec Load(const int32_t* p) { return vld1q_s32(p); }
  static void Store(int32_t* p, Vec v) { vst1q_s32(p, v); }
  static Vec Broadcast(const uint8_t* p) {
    return vld1q_dup_s32(reinterpret_cast<const int32_t*>(p));
  }
  static Vec Add(Vec a, Vec b) { return vaddq_s32(a, b); }
  static Vec Mul(Vec a, Vec b) { return vmulq_s32(a, b); }
  static Vec Shr(Vec a, int32_t n) { return vshlq_s32(a, vdupq_n_s32(-n)); }
  static Vec Min(Vec a, Vec b) { return vminq_s32(a, b); }
  static Vec Max(Vec a, Vec b) { return vmaxq_s32(a, b); }
  static Vec Set(int32_t value) { return vdupq_n_s32(value); }
};

}  // namespace
}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_NEON_H_
