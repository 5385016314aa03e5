// Dependency tokens: which instruction may start when, and what is known to be done before it
// starts.
#ifndef FLOW_SIM_CORE_TOKENS_H_
#define FLOW_SIM_CORE_TOKENS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "decode.h"

namespace vta {

inline constexpr int kModules = 3;
// Token FIFOs: LOAD to COMPUTE, COMPUTE to LOAD, COMPUTE to STORE, STORE to COMPUTE.
inline constexpr int kFifos = 4;

// The FIFOs that an instruction pops and pushes; -1 where none. prev is the neighbour towards LOAD,
// next towards STORE.
struct TokenUse {
  int pop[2];
  int push[2];
};
TokenUse TokensOf(const Insn& insn);

// How many instructions of each module have completed.
using Clock = std::array<uint32_t, kModules>;

struct Schedule {
  // A token-legal order of all instructions: the stream order, changed only where that must wait.
  std::vector<uint32_t> order;
  // For each instruction: how many instructions of each module are known to be done when it starts.
  std::vector<Clock> clocks;
  // For each instruction: its position in its module's queue.
  std::vector<uint32_t> position;

  // Whether instruction `first` is always done before `second` starts.
  bool Before(const std::vector<Insn>& insns, uint32_t first, uint32_t second) const {
    return clocks[second][static_cast<size_t>(insns[first].module)] > position[first];
  }
};

// Orders the instructions. Throws DeadlockError that says who waits for whom. With `strict`, also
// DecodeError on tokens for neighbours that do not exist, HazardError on tokens left over or more
// than kMaxTokens outstanding in any legal order, and DeadlockError when a full module queue blocks
// the fetch of what it waits for.
Schedule MakeSchedule(const std::vector<Insn>& insns, bool strict, const OriginFn& origin);

// A random token-legal order, the same for the same seed.
std::vector<uint32_t> RandomOrder(const std::vector<Insn>& insns, uint64_t seed);

}  // namespace vta

#endif  // FLOW_SIM_CORE_TOKENS_H_
