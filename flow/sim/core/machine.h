// The scratchpads, and the meaning of every instruction: one function each, shared by every engine.
// Checks are not made here.
#ifndef FLOW_SIM_CORE_MACHINE_H_
#define FLOW_SIM_CORE_MACHINE_H_

#include <vector>

#include "config.h"
#include "decode.h"
#include "kernels.h"
#include "plan.h"
#include "tape.h"
#include "weights.h"

namespace vta {

class Machine {
 public:
  // `insns`: the program, for what of its weights is constant; it is packed once if that takes at
  // most `most_bytes`.
  Machine(const Config& config, const Kernels& kernels, const std::vector<Insn>& insns,
          uint64_t most_bytes);

  // Executes one instruction. `dram` is the host address of dram_base (LOAD, STORE); `nest` the
  // plan of a GEMM or ALU. LOAD UOP does nothing: micro-ops were read when the plans were made.
  void Execute(const Insn& insn, uint8_t* dram, const NestRef& nest);

  // Executes GEMMs of a tape.
  void Execute(const TapeGemm& gemm);
  // acc[begin .. begin + count] = 0, in elements.
  void Clear(size_t begin, size_t count);

  Weights& weights() { return weights_; }
  // inp as packed.
  const uint8_t* inp() const { return inp_bytes_.data(); }
  // acc, int32[acc_depth][batch][block].
  int32_t* acc() const { return acc_; }

 private:
  void Load(const Insn& insn, const uint8_t* dram);  // exec_load.cc
  // Packs consecutive elements as they lie in DRAM.
  void PackInp(const uint8_t* from, size_t at, size_t elements);
  void Gemm(const Insn& insn, const NestRef& nest);  // exec_gemm.cc
  void GemmTaps(GemmArgs args, GemmTerm* term, const PlanTap* taps, size_t wgt);
  void Alu(const Insn& insn, const NestRef& nest);  // exec_alu.cc
  void Store(const Insn& insn, uint8_t* dram);      // exec_store.cc

  // Lanes of inp that are unpacked at once.
  static constexpr size_t kUnpack = 4096;

  Config config_;
  const Kernels& kernels_;
  size_t inp_packed_;       // bytes of a packed inp element
  AlignedBytes unpacked_;   // int8 lanes of the 4-bit ones that a LOAD is unpacking
  AlignedBytes inp_bytes_;  // and as many zeros behind it, for rows that a tape leaves out
  Weights weights_;
  AlignedBytes acc_bytes_;
  int32_t* acc_;
  // Of the GEMM that is running.
  std::vector<int32_t> src_;
  std::vector<uint32_t> wgt_;
  AlignedBytes init_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_MACHINE_H_
