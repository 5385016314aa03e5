// GEMM: acc[dst] += inp[src] . wgt[wgt]^T over the nest, or acc[dst] = 0 with reset.
#include <cstring>

#include "machine.h"

namespace vta {

void Machine::Gemm(const Insn& insn, const NestRef& nest) {
  if (nest.plan == nullptr) return;  // no steps
  const NestPlan& plan = *nest.plan;
  const size_t lanes = config_.lanes();
  int32_t* acc = acc_ + static_cast<size_t>(nest.base.dst) * lanes;
  if (insn.reset) {
    for (const AluRun& run : plan.runs) {
      std::memset(acc + static_cast<ptrdiff_t>(run.dst) * static_cast<ptrdiff_t>(lanes), 0,
                  static_cast<size_t>(run.count) * lanes * 4);
    }
    return;
  }
  const uint8_t* inp = inp_bytes_.data() + static_cast<size_t>(nest.base.src) * inp_packed_;
  const uint8_t* wgt = wgt_bytes_.data() + static_cast<size_t>(nest.base.wgt) * wgt_packed_;
  for (const GemmGroup& group : plan.groups) {
    for (uint32_t b = 0; b < group.base_count; ++b) {
      const GemmBase& base = plan.bases[group.base_begin + b];
      kernels_.gemm({acc + base.dst, inp + base.src, wgt + base.wgt,
                     plan.rows.data() + group.row_begin, group.row_count,
                     plan.taps.data() + group.tap_begin, group.tap_count, config_.block()});
    }
  }
}

}  // namespace vta
