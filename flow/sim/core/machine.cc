#include "machine.h"

#include <algorithm>
#include <cstring>

namespace vta {

Machine::Machine(const Config& config, const Kernels& kernels, const std::vector<Insn>& insns,
                 uint64_t most_bytes)
    : config_(config),
      kernels_(kernels),
      inp_packed_(config.lanes() * kernels.inp_lane_bytes),
      unpacked_(kUnpack),
      inp_bytes_((2 * config.inp_depth() + 1) * inp_packed_),
      weights_(config, kernels, insns, most_bytes),
      acc_bytes_(config.acc_depth() * config.acc_bytes()),
      acc_(reinterpret_cast<int32_t*>(acc_bytes_.data())),
      init_(std::max(config.block(), kColumn) * sizeof(int32_t)) {
  if (kernels.inp_zero == 0) return;
  std::memset(inp_bytes_.data(), kernels.inp_zero, (2 * config.inp_depth() + 1) * inp_packed_);
}

void Machine::Clear(size_t begin, size_t count) {
  std::memset(acc_ + begin * config_.lanes(), 0, count * config_.acc_bytes());
}

void Machine::Execute(const Insn& insn, uint8_t* dram, const NestRef& nest) {
  switch (insn.op) {
    case Opcode::kLoad:
      return Load(insn, dram);
    case Opcode::kStore:
      return Store(insn, dram);
    case Opcode::kGemm:
      return Gemm(insn, nest);
    case Opcode::kAlu:
      return Alu(insn, nest);
    case Opcode::kFinish:
      return;
  }
}

}  // namespace vta
