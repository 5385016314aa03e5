// The checks of a stream. Each throws an error that names the instruction and its origin.
#ifndef FLOW_SIM_CORE_VERIFY_H_
#define FLOW_SIM_CORE_VERIFY_H_

#include <vector>

#include "config.h"
#include "decode.h"
#include "dram.h"
#include "plan.h"
#include "tokens.h"

namespace vta {

// Checks a LOAD or STORE against the scratchpads and DRAM; returns the host address of dram_base
// (null for a no-op). Throws CapacityError, DecodeError.
uint8_t* CheckMem(const Insn& insn, size_t index, const Config& config, const Dram& dram,
                  bool strict, const OriginFn& origin);

// Checks the loop nest of a GEMM or ALU as far as the micro-ops' contents do not matter. Throws
// CapacityError, DecodeError.
void CheckNest(const Insn& insn, size_t index, const Config& config, bool strict,
               const OriginFn& origin);

// Checks the largest index of each operand of a GEMM or ALU; with `strict` also the src beside an
// immediate, which is not read. Throws CapacityError.
void CheckIndices(const Insn& insn, size_t index, const Uop* uops, const Config& config,
                  bool strict, const OriginFn& origin);

// Checks that there is one FINISH, at the end. Throws HazardError.
void CheckFinish(const std::vector<Insn>& insns, const OriginFn& origin);

// Checks that FINISH, the last instruction, waits for all others. Throws HazardError.
void CheckFinishWaits(const std::vector<Insn>& insns, const Schedule& schedule,
                      const OriginFn& origin);

// Checks that every scratchpad element and (where `defined` is not empty) DRAM byte read was
// written before, that stored elements were last written by GEMM or ALU, that no two modules race
// on a scratchpad element or DRAM byte, and that no ALU operation touches what the operation just
// before it wrote. Throws HazardError.
void CheckHazards(const std::vector<Insn>& insns, const Schedule& schedule,
                  const std::vector<NestRef>& nests, const Config& config, const Dram& dram,
                  const std::vector<Range>& defined, const OriginFn& origin);

}  // namespace vta

#endif  // FLOW_SIM_CORE_VERIFY_H_
