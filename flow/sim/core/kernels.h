// The inner loops, one table of functions for each vector instruction set, chosen at run time.
#ifndef FLOW_SIM_CORE_KERNELS_H_
#define FLOW_SIM_CORE_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "isa.gen.h"

namespace vta {

// One destination row of a GEMM group: offsets from the instruction's bases.
struct GemmRow {
  int32_t dst;  // int32 lanes in acc
  int32_t src;  // bytes in the packed inp scratchpad
};

// One step of the sum of a GEMM group.
struct GemmTap {
  int32_t src;  // bytes in the packed inp scratchpad
  int32_t wgt;  // bytes in the packed wgt scratchpad
};

// acc[row] += sum over taps of inp[row + tap] . wgt[tap], for every row; the rows are distinct.
struct GemmArgs {
  int32_t* acc;
  const uint8_t* inp;
  const uint8_t* wgt;
  const GemmRow* rows;
  size_t row_count;
  const GemmTap* taps;
  size_t tap_count;
  size_t block;
};

// Consecutive elements of an ALU instruction: element offsets from the instruction's bases.
struct AluRun {
  int32_t dst;
  int32_t src;
  int32_t count;
};

struct AluArgs {
  int32_t* acc;        // at the destination base
  const int32_t* src;  // at the source base
  const AluRun* runs;
  size_t run_count;
  size_t lanes;
  AluOp op;
  bool use_imm;
  int32_t imm;
};

struct Kernels {
  const char* name;
  // Bytes of one inp lane as packed.
  size_t inp_lane_bytes;
  // The byte that a zero inp lane consists of.
  uint8_t inp_zero;
  // Bytes of one packed wgt element; a packed zero element is all zero bytes.
  size_t (*wgt_bytes)(size_t block);
  // Both from int8 lanes.
  void (*pack_inp)(const uint8_t* from, uint8_t* to, size_t lanes);
  void (*pack_wgt)(const uint8_t* from, uint8_t* to, size_t block);
  void (*gemm)(const GemmArgs& args);
  void (*alu)(const AluArgs& args);
  // to[i] = the low 8 bits of from[i].
  void (*narrow)(const int32_t* from, uint8_t* to, size_t lanes);
  // Between lanes of 4 bits, two a byte, the even one low, and int8: `lanes` is even.
  void (*unpack4)(const uint8_t* from, uint8_t* to, size_t lanes);
  void (*narrow4)(const int32_t* from, uint8_t* to, size_t lanes);
};

// Names that ChooseKernels knows, the slowest first: "plain", "avx2", "avx512bw", "avx512vnni".
// Returns null when this processor or build does not have `name`; an empty name chooses the fastest
// for `block`.
const Kernels* ChooseKernels(const char* name, size_t block);

extern const Kernels kPlainKernels;
#ifdef VTA_X86_KERNELS
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512bwKernels;
extern const Kernels kAvx512vnniKernels;
#endif

}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_H_
