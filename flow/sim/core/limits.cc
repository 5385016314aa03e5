#include "limits.h"

#include <algorithm>
#include <string>

#include "error.h"

namespace vta {
namespace {

// An instruction as Python and the core decode it, with its place, its clocks and its timing.
constexpr uint64_t kBytesPerInsn = 1024;
// What the checks note of an element of a scratchpad or of DRAM.
constexpr uint64_t kBytesPerElement = 12;

constexpr char kHint[] = "allow more where you trust it (max_steps, max_bytes)";

void CheckCost(uint64_t cost, uint64_t limit, const char* unit) {
  if (cost <= limit) return;
  const std::string got = cost == UINT64_MAX ? "more than can be counted" : std::to_string(cost);
  throw CostError("program: must take at most " + std::to_string(limit) + " " + unit + ", got " +
                  got + "; " + kHint);
}

}  // namespace

uint64_t SaturatingAdd(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

uint64_t SaturatingMul(uint64_t a, uint64_t b) {
  return b != 0 && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

uint64_t StepsOf(const std::vector<Insn>& insns, const Config& config) {
  const uint64_t gemm = std::max<uint64_t>(config.lanes() * config.block() / 256, 1);
  const uint64_t alu = std::max<uint64_t>(config.lanes() / 64, 1);
  uint64_t total = 0;
  for (const Insn& insn : insns) {
    uint64_t steps = 0;
    if (insn.is_mem()) {
      const uint64_t bytes = config.dram_bytes(insn.memory);
      steps = SaturatingMul(insn.sram_elems(), std::max<uint64_t>(bytes / 64, 1));
      if (!insn.is_nop()) steps = SaturatingAdd(steps, uint64_t{4} * insn.y_size);
    } else if (insn.is_nest()) {
      const bool clears = insn.op == Opcode::kGemm && insn.reset;
      steps = SaturatingMul(insn.steps(), insn.op == Opcode::kAlu || clears ? alu : gemm);
    }
    total = SaturatingAdd(total, steps);
  }
  return total;
}

uint64_t MemoryOf(uint64_t dram_bytes, uint64_t insns, const Config& config) {
  const uint64_t granule = std::min(config.out_bytes(), config.wgt_bytes());
  uint64_t total = SaturatingMul(insns, kBytesPerInsn);
  total = SaturatingAdd(total, dram_bytes);
  total = SaturatingAdd(total, SaturatingMul(dram_bytes / granule, kBytesPerElement));
  // Packed inp and wgt take up to two bytes a number; as many zeros lie behind inp.
  total = SaturatingAdd(total, config.inp_depth() * (4 * config.lanes() + kBytesPerElement));
  const uint64_t weights = config.block() * config.block();
  total = SaturatingAdd(total, config.wgt_depth() * (2 * weights + kBytesPerElement));
  return SaturatingAdd(total, config.acc_depth() * (config.acc_bytes() + kBytesPerElement));
}

void CheckSteps(uint64_t steps, const Limits& limits) { CheckCost(steps, limits.steps, "steps"); }

void CheckMemory(uint64_t bytes, const Limits& limits) {
  CheckCost(bytes, limits.bytes, "bytes of memory");
}

void Budget::Take(uint64_t bytes) {
  used_ = SaturatingAdd(used_, bytes);
  CheckMemory(used_, limits_);
}

}  // namespace vta
