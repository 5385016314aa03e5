// ALU: acc[dst] = op(acc[dst], imm or acc[src]) over the nest, one step after the other.
#include "machine.h"

namespace vta {

void Machine::Alu(const Insn& insn, const NestRef& nest) {
  if (nest.plan == nullptr) return;  // no steps
  const NestPlan& plan = *nest.plan;
  const size_t lanes = config_.lanes();
  kernels_.alu({acc_ + static_cast<size_t>(nest.base.dst) * lanes,
                acc_ + static_cast<size_t>(nest.base.src) * lanes, plan.runs.data(),
                plan.runs.size(), lanes, insn.alu, insn.use_imm, insn.imm});
}

}  // namespace vta
