// What a program costs, and how much of it is allowed: files come from anywhere, and a few bytes of
// one can ask for hours or for all memory. Costs are known from the instructions alone, before
// anything is run or allocated.
#ifndef FLOW_SIM_CORE_LIMITS_H_
#define FLOW_SIM_CORE_LIMITS_H_

#include <cstdint>
#include <vector>

#include "config.h"
#include "decode.h"

namespace vta {

// The most that a program may take. flow/system/limits.py has the same numbers.
struct Limits {
  // Steps of loop nests and elements of LOAD and STORE; CostOf says how they count.
  uint64_t steps = uint64_t{1} << 28;
  // Memory of the program's DRAM, scratchpads, instructions and loop nests, and for the checks.
  uint64_t bytes = uint64_t{1} << 29;

  static constexpr Limits None() { return {UINT64_MAX, UINT64_MAX}; }
};

struct Cost {
  uint64_t steps = 0;
  uint64_t bytes = 0;
};

// Sums and products that stay at the largest number where they would overflow.
uint64_t SaturatingAdd(uint64_t a, uint64_t b);
uint64_t SaturatingMul(uint64_t a, uint64_t b);

// The steps of instructions. A step of a GEMM counts once, and on machines whose step has more than
// 256 multiplications as many times; a step of an ALU or a GEMM that clears likewise for each 64
// lanes. An element that LOAD writes or STORE reads counts once for each 64 bytes, and each row of
// them four times more.
uint64_t StepsOf(const std::vector<Insn>& insns, const Config& config);

// The bytes of memory that checking and running take, but for the loop nests: `dram_bytes`, what is
// noted of each of its elements, the scratchpads, and what is kept of `insns` instructions.
uint64_t MemoryOf(uint64_t dram_bytes, uint64_t insns, const Config& config);

// Throw CostError when a cost is above its limit.
void CheckSteps(uint64_t steps, const Limits& limits);
void CheckMemory(uint64_t bytes, const Limits& limits);

// Memory that grows while loop nests are prepared.
class Budget {
 public:
  explicit Budget(const Limits& limits, uint64_t used = 0) : limits_(limits), used_(used) {}
  // Throws CostError when the whole is then above the limit.
  void Take(uint64_t bytes);
  uint64_t used() const { return used_; }
  // Gives back what was taken after `used`.
  void Reset(uint64_t used) { used_ = used; }

 private:
  Limits limits_;
  uint64_t used_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_LIMITS_H_
