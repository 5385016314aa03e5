// The inner loops, one table of functions for each vector instruction set, chosen at run time.
#ifndef FLOW_SIM_CORE_KERNELS_H_
#define FLOW_SIM_CORE_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "isa.gen.h"

namespace vta {

// Output lanes that are summed together: a column of a wgt element. A smaller block is one column.
inline constexpr size_t kColumn = 16;
// Packed wgt elements start at multiples of this.
inline constexpr size_t kLineBytes = 64;
// Columns of one GEMM.
inline constexpr size_t kMostColumns = 8;
// Lines behind the last packed wgt element that kernels may read; they do not use them.
inline constexpr size_t kLinesBehind = 16;

// One destination row of a GEMM: offsets from the bases of acc and of the term.
struct GemmRow {
  int32_t dst;  // int32 lanes in acc
  int32_t src;  // bytes in the packed inp scratchpad
};

// Products that rows sum: sum over taps of inp[row + tap] . wgt[tap]. A tap is an inp element and,
// for each column, 16 rows of a wgt element.
struct GemmTerm {
  const GemmRow* rows;  // for src alone
  const uint8_t* inp;
  const int32_t* src;   // of each tap: bytes in the packed inp scratchpad, from the row's
  const uint32_t* wgt;  // [tap][columns]: lines from GemmArgs::wgt
  size_t tap_count;
  bool in_order;  // the taps' wgt of each column lie one behind the other
};

// Products with a diagonal wgt element: factors[o] * inp[row + o], for one column.
struct GemmDiagonal {
  const GemmRow* rows;  // for src alone
  const uint8_t* inp;
  const int32_t* factors;  // int32[16]
  size_t column;
};

// What an ALU may do to a finished sum, in this order: min(max(a >> shift, low), high).
struct Clip {
  int32_t shift = 0;  // 0 to 31
  int32_t low = INT32_MIN;
  int32_t high = INT32_MAX;
};

// For every row, which are distinct: acc[row] = clip((fresh ? 0 : acc[row]) + init + terms).
struct GemmArgs {
  size_t block = 0;
  size_t columns = 0;
  // Of each column, at its first lane.
  int32_t* acc[kMostColumns] = {};
  const int32_t* init[kMostColumns] = {};  // int32[16]
  const GemmRow* rows = nullptr;
  size_t row_count = 0;
  const uint8_t* wgt = nullptr;
  const GemmTerm* terms = nullptr;
  size_t term_count = 0;
  const GemmDiagonal* diagonals = nullptr;
  size_t diagonal_count = 0;
  bool fresh = false;
  const GemmArgs* next = nullptr;  // the call after this one, if its weights may be fetched
  const Clip* clip = nullptr;      // null: nothing
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
  // Bytes of one packed wgt element: its columns, lines of 16 output lanes and 4 bytes of inp each.
  // A packed zero element is all zero bytes.
  size_t (*wgt_bytes)(size_t block);
  // Whether a wgt element has corrections, which must be part of `init`; those of zeros are zero.
  bool corrected;
  // Both from int8 lanes. `corrections` is int32[block] where there are any.
  void (*pack_inp)(const uint8_t* from, uint8_t* to, size_t lanes);
  void (*pack_wgt)(const uint8_t* from, uint8_t* to, size_t block, int32_t* corrections);
  void (*gemm)(const GemmArgs& args);
  void (*alu)(const AluArgs& args);
  // to[i] = the low 8 bits of from[i].
  void (*narrow)(const int32_t* from, uint8_t* to, size_t lanes);
  // Between lanes of 4 bits, two a byte, the even one low, and int8: `lanes` is even.
  void (*unpack4)(const uint8_t* from, uint8_t* to, size_t lanes);
  void (*narrow4)(const int32_t* from, uint8_t* to, size_t lanes);
  // Called before and after GEMMs, in their thread, where state of the processor must be set.
  void (*begin)() = nullptr;
  void (*end)() = nullptr;
};

// GEMMs may run while one of these lives, in the thread that made it.
class KernelsInUse {
 public:
  explicit KernelsInUse(const Kernels& kernels) : kernels_(kernels) {
    if (kernels_.begin != nullptr) kernels_.begin();
  }
  ~KernelsInUse() {
    if (kernels_.end != nullptr) kernels_.end();
  }
  KernelsInUse(const KernelsInUse&) = delete;
  KernelsInUse& operator=(const KernelsInUse&) = delete;

 private:
  const Kernels& kernels_;
};

// Names that ChooseKernels knows, the slowest first: "plain"; on x86 "avx2", "avx512bw",
// "avx512vnni", "amx"; on 64-bit ARM "neon", "neon_dot"; and "amx_model", for tests. Returns null
// when this processor or build does not have `name`, or its block is smaller than 16 and `name` not
// plain; an empty name chooses the fastest.
const Kernels* ChooseKernels(const char* name, size_t block);

extern const Kernels kPlainKernels;
extern const Kernels kAmxModelKernels;
#ifdef VTA_X86_KERNELS
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512bwKernels;
extern const Kernels kAvx512vnniKernels;
extern const Kernels kAmxKernels;
#endif
#ifdef VTA_ARM_KERNELS
extern const Kernels kNeonKernels;
extern const Kernels kNeonDotKernels;
#endif

}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_H_
