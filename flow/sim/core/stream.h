// A checked instruction stream: decoded instructions, their order, their loop nests and where their
// DRAM operands lie. Engines run it without further checks.
#ifndef FLOW_SIM_CORE_STREAM_H_
#define FLOW_SIM_CORE_STREAM_H_

#include <memory>
#include <vector>

#include "config.h"
#include "decode.h"
#include "dram.h"
#include "limits.h"
#include "plan.h"
#include "tokens.h"

namespace vta {

// What the original simulator counts: bytes moved by memory, without padding, and operations.
struct Counters {
  uint64_t inp_bytes = 0, wgt_bytes = 0, acc_bytes = 0, uop_bytes = 0, out_bytes = 0;
  uint64_t gemm_ops = 0, alu_ops = 0, insns = 0;
};

// Steps that one GEMM or ALU instruction may have; more is taken for damage.
inline constexpr uint64_t kMaxSteps = uint64_t{1} << 24;

class Stream {
 public:
  // Decodes and checks everything that does not depend on the micro-ops in memory: encoding, ranges
  // of scratchpads and DRAM, tokens, FINISH, and what it costs. `strict` also requires the portable
  // subset. Throws DecodeError, CapacityError, HazardError, DeadlockError.
  Stream(const Config& config, const Kernels& kernels, const uint8_t* bytes, size_t size,
         const Dram& dram, bool strict, OriginFn origin, const Limits& limits = Limits());

  // Reads the micro-ops from `dram`, makes the plans, and checks their indices and, when strict,
  // that everything read was written and that no two modules race. `defined`: DRAM bytes that hold
  // data before the program runs; when empty, all do. Throws CapacityError and HazardError.
  void Bind(const Dram& dram, const std::vector<Range>& defined);
  bool bound() const { return bound_; }
  // Forgets the plans: the micro-ops in memory have changed.
  void Unbind() { bound_ = false; }
  // Whether bytes of [begin, end) were read as micro-ops, so that changing them needs another Bind.
  bool ReadsUops(uint64_t begin, uint64_t end) const;

  const Config& config() const { return config_; }
  const Kernels& kernels() const { return kernels_; }
  const std::vector<Insn>& insns() const { return insns_; }
  const Schedule& schedule() const { return schedule_; }
  // The plan of each instruction; only GEMM and ALU with steps have one.
  const std::vector<NestRef>& nests() const { return nests_; }
  // The host address of each instruction's dram_base; null where it has no DRAM operand.
  uint8_t* dram(size_t index) const { return dram_[index]; }
  const OriginFn& origin() const { return origin_; }
  Counters Count(size_t begin, size_t end) const;
  const Limits& limits() const { return limits_; }
  // What checking and running takes; the loop nests count once they are bound.
  Cost cost() const { return {steps_, memory_.used()}; }

 private:
  void BindNest(size_t index, const std::vector<uint32_t>& uop, const std::vector<bool>& written,
                const UopDecoder& decoder, PlanCache* plans);

  Config config_;
  const Kernels& kernels_;
  bool strict_;
  Limits limits_;
  uint64_t steps_ = 0;
  Budget memory_;
  bool bound_ = false;
  OriginFn origin_;
  std::vector<Insn> insns_;
  Schedule schedule_;
  std::vector<uint8_t*> dram_;
  std::vector<NestRef> nests_;
  std::vector<Range> uop_ranges_;  // DRAM bytes read by LOAD UOP, ascending, apart
  std::unique_ptr<PlanCache> plans_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_STREAM_H_
