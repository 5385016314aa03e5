// The scratchpads, and the meaning of every instruction: one function each, shared by every engine.
// Checks are not made here.
#ifndef FLOW_SIM_CORE_MACHINE_H_
#define FLOW_SIM_CORE_MACHINE_H_

#include "config.h"
#include "decode.h"
#include "kernels.h"
#include "plan.h"
#include "zeroed_array.h"

namespace vta {

// Zeroed bytes, 64-byte aligned.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t bytes);
  uint8_t* data() const { return data_; }

 private:
  ZeroedArray<uint8_t> storage_;
  uint8_t* data_;
};

class Machine {
 public:
  Machine(const Config& config, const Kernels& kernels);

  // Executes one instruction. `dram` is the host address of dram_base (LOAD, STORE); `nest` the
  // plan of a GEMM or ALU. LOAD UOP does nothing: micro-ops were read when the plans were made.
  void Execute(const Insn& insn, uint8_t* dram, const NestRef& nest);

  // acc, int32[acc_depth][batch][block].
  int32_t* acc() const { return acc_; }

 private:
  void Load(const Insn& insn, const uint8_t* dram);  // exec_load.cc
  // Pack consecutive elements as they lie in DRAM.
  void PackInp(const uint8_t* from, size_t at, size_t elements);
  void PackWgt(const uint8_t* from, size_t at, size_t elements);
  void Gemm(const Insn& insn, const NestRef& nest);  // exec_gemm.cc
  void Alu(const Insn& insn, const NestRef& nest);   // exec_alu.cc
  void Store(const Insn& insn, uint8_t* dram);       // exec_store.cc

  // Lanes of inp that are unpacked at once.
  static constexpr size_t kUnpack = 4096;

  Config config_;
  const Kernels& kernels_;
  size_t inp_packed_;  // bytes of a packed inp element
  size_t wgt_packed_;  // bytes of a packed wgt element
  // int8 lanes of the 4-bit ones that a LOAD is unpacking: of a wgt element, or kUnpack of inp.
  AlignedBytes unpacked_;
  AlignedBytes inp_bytes_;
  AlignedBytes wgt_bytes_;
  AlignedBytes acc_bytes_;
  int32_t* acc_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_MACHINE_H_
