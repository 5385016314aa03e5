// Decodes instructions and micro-ops once, at load; every later stage works on these structures.
#ifndef FLOW_SIM_CORE_DECODE_H_
#define FLOW_SIM_CORE_DECODE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "config.h"
#include "isa.gen.h"

namespace vta {

// One decoded instruction; fields that its format does not have are 0.
struct Insn {
  Opcode op = Opcode::kFinish;
  Module module = Module::kCompute;
  bool pop_prev = false, pop_next = false, push_prev = false, push_next = false;
  // LOAD, STORE
  Memory memory = Memory::kUop;
  uint32_t sram_base = 0, dram_base = 0, y_size = 0, x_size = 0, x_stride = 0;
  uint32_t y_pad_0 = 0, y_pad_1 = 0, x_pad_0 = 0, x_pad_1 = 0;
  // GEMM, ALU
  bool reset = false;
  uint32_t uop_begin = 0, uop_end = 0, iter_out = 0, iter_in = 0;
  uint32_t dst_out = 0, dst_in = 0, src_out = 0, src_in = 0, wgt_out = 0, wgt_in = 0;
  AluOp alu = AluOp::kMin;
  bool use_imm = false;
  int32_t imm = 0;

  bool is_mem() const { return op == Opcode::kLoad || op == Opcode::kStore; }
  bool is_nest() const { return op == Opcode::kGemm || op == Opcode::kAlu; }
  // A LOAD or STORE that only moves tokens.
  bool is_nop() const { return is_mem() && x_size == 0; }
  // Columns and rows that a LOAD writes in the scratchpad, padding included.
  uint64_t columns() const { return uint64_t{x_pad_0} + x_size + x_pad_1; }
  uint64_t rows() const { return uint64_t{y_pad_0} + y_size + y_pad_1; }
  // Scratchpad elements that a LOAD writes or a STORE reads.
  uint64_t sram_elems() const { return is_nop() ? 0 : columns() * rows(); }
  // Elements moved from or to DRAM.
  uint64_t dram_elems() const { return uint64_t{x_size} * y_size; }
  // Steps of the loop nest.
  uint64_t steps() const {
    return uop_end > uop_begin ? uint64_t{uop_end - uop_begin} * iter_out * iter_in : 0;
  }
};

struct Uop {
  int32_t dst = 0, src = 0, wgt = 0;
};

// Says where an instruction comes from, for error messages; may be empty.
using OriginFn = std::function<std::string(size_t)>;

// "insn 12, conv1 tile (0, 3)".
std::string Locate(size_t index, const OriginFn& origin);
// "insn 12 LOAD INP (conv1 tile (0, 3))", for sentences about several instructions.
std::string Describe(size_t index, const Insn& insn, const OriginFn& origin);

// Decodes a stream. With `strict`, bits that no field covers and the fields of FINISH must be 0.
// Throws DecodeError on an opcode, memory type, ALU opcode or capability that the machine does not
// have.
std::vector<Insn> Decode(const uint8_t* bytes, size_t size, const Config& config, bool strict,
                         const OriginFn& origin);

// The lowest bit of a field of ALU.
int AluLsb(const Config& config, alu::Index field);

// Where the three fields of a micro-op lie.
class UopDecoder {
 public:
  explicit UopDecoder(const Config& config);
  Uop operator()(uint32_t word) const;

 private:
  int shift_[uop::kCount];
  uint32_t mask_[uop::kCount];
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_DECODE_H_
