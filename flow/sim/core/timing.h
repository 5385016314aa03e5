// The cycle model: when each instruction is fetched, starts and is done. Programs are data
// independent, so this needs no data; tsim executes the instructions in the order found here.
// docs/timing.md derives every number; the facts are those of docs/machine.md.
#ifndef FLOW_SIM_CORE_TIMING_H_
#define FLOW_SIM_CORE_TIMING_H_

#include <cstdint>
#include <vector>

#include "config.h"
#include "decode.h"

namespace vta {

// Why an instruction could not start earlier: the thing that was ready last.
enum class Cause : int32_t { kModule = 0, kFetch = 1, kToken = 2, kNone = 3 };

// Cycles count from the launch.
struct InsnTiming {
  int64_t dispatch = 0;  // FETCH puts it in its module's queue
  int64_t start = 0;     // it leaves the idle state, its tokens popped
  int64_t done = 0;      // its tokens are posted; the next one starts a cycle later at the earliest
  int64_t wait_fetch = 0;   // cycles its module was free and it was not there
  int64_t wait_prev = 0;    // then cycles until the token of the previous module
  int64_t wait_next = 0;    // then cycles until the token of the next module
  int64_t cause = 0;        // Cause
  int64_t cause_insn = -1;  // the instruction that posted the token or ran before
  int64_t beats = 0;        // of the bus, moved
  int64_t bursts = 0;
  int64_t request = 0;     // FETCH asks for its chunk
  int64_t wait_queue = 0;  // cycles FETCH waited for room in the queue
};
inline constexpr int kTimingColumns = 12;

struct Timeline {
  std::vector<InsnTiming> insns;
  std::vector<uint32_t> order;  // by start
  int64_t cycles = 0;           // from launch until FINISH (or the last instruction) is done
};

// `stream_address`: the byte address of the first instruction, on which the chunks depend that the
// fetch unit of buses of 128 bits and more reads. Throws DeadlockError that names who waits for
// whom, HazardError when a token counter overflows, ConfigError for an address within a 64-bit word
// or a machine that no engine runs.
Timeline Simulate(const std::vector<Insn>& insns, const Config& config, const TimingParams& params,
                  const OriginFn& origin, uint64_t stream_address = 0);

}  // namespace vta

#endif  // FLOW_SIM_CORE_TIMING_H_
