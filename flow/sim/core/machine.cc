#include "machine.h"

#include <algorithm>
#include <cstring>

namespace vta {

AlignedBytes::AlignedBytes(size_t bytes) : storage_(bytes + 63) {
  uint8_t* start = storage_.data();
  data_ = start + (64 - reinterpret_cast<uintptr_t>(start) % 64) % 64;
}

Machine::Machine(const Config& config, const Kernels& kernels)
    : config_(config),
      kernels_(kernels),
      inp_packed_(config.lanes() * kernels.inp_lane_bytes),
      wgt_packed_(kernels.wgt_bytes(config.block())),
      unpacked_(std::max(kUnpack, config.block() * config.block())),
      inp_bytes_(config.inp_depth() * inp_packed_),
      wgt_bytes_(config.wgt_depth() * wgt_packed_),
      acc_bytes_(config.acc_depth() * config.acc_bytes()),
      acc_(reinterpret_cast<int32_t*>(acc_bytes_.data())) {
  if (kernels.inp_zero == 0) return;
  std::memset(inp_bytes_.data(), kernels.inp_zero, config.inp_depth() * inp_packed_);
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
