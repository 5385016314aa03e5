// STORE: y_size rows of x_size elements to DRAM. The out buffer holds the low 8 or 4 bits of what
// GEMM and ALU last wrote to acc; a checked program stores only such elements, so they are taken
// from acc.
#include "machine.h"

namespace vta {

void Machine::Store(const Insn& insn, uint8_t* dram) {
  if (insn.is_nop()) return;
  const size_t row_lanes = insn.x_size * config_.lanes();
  const size_t stride = insn.x_stride * config_.out_bytes();
  const int32_t* from = acc_ + insn.sram_base * config_.lanes();
  const auto narrow = config_.inp_bits() == 8 ? kernels_.narrow : kernels_.narrow4;
  for (size_t row = 0; row < insn.y_size; ++row) {
    narrow(from + row * row_lanes, dram + row * stride, row_lanes);
  }
}

}  // namespace vta
