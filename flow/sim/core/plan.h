// Loop nests, prepared for execution and for checking. Many instructions share one nest apart from
// their bases (the fields of their first micro-op), so plans are relative to the bases and kept
// once.
#ifndef FLOW_SIM_CORE_PLAN_H_
#define FLOW_SIM_CORE_PLAN_H_

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "config.h"
#include "decode.h"
#include "kernels.h"
#include "limits.h"

namespace vta {

// Distinct rows and the steps that each of them sums, repeated at every base.
struct GemmGroup {
  uint32_t row_begin, row_count;
  uint32_t tap_begin, tap_count;
  uint32_t base_begin, base_count;
};

struct GemmBase {
  int32_t dst;  // int32 lanes
  int32_t src;  // bytes, packed
  int32_t wgt;  // elements
};

// A step of a row's sum, from its row and base.
struct PlanTap {
  int32_t src;  // bytes, packed
  int32_t wgt;  // elements
};

struct NestPlan {
  // GEMM that accumulates.
  std::vector<GemmGroup> groups;
  std::vector<GemmRow> rows;  // of a group by dst, ascending
  std::vector<PlanTap> taps;
  std::vector<GemmBase> bases;
  // ALU, and GEMM with reset (dst only).
  std::vector<AluRun> runs;
  // Footprint: distinct elements touched, relative to the bases, ascending. src of a GEMM is inp,
  // of an ALU acc.
  std::vector<int32_t> dst, src, wgt;
  // Step t at which an ALU operation touches the element that step t - 1 wrote; 0 when none does.
  uint64_t back_to_back = 0;
};

// The plan of one instruction and its bases, in elements.
struct NestRef {
  const NestPlan* plan = nullptr;
  Uop base;
};

class PlanCache {
 public:
  // `memory` must outlive this; plans are taken from it.
  PlanCache(const Config& config, const Kernels& kernels, Budget* memory)
      : config_(config), kernels_(kernels), memory_(memory) {}
  // Finds or makes the plan of `insn`, whose micro-ops are `uops` (uop_end - uop_begin of them, at
  // least one). The caller has checked that the indices are in range. Throws CapacityError when the
  // plans take more memory than is allowed.
  NestRef Get(const Insn& insn, const Uop* uops);
  size_t size() const { return plans_.size(); }

 private:
  void BuildGemm(const Insn& insn, const std::vector<Uop>& uops, NestPlan* plan) const;
  void BuildRuns(const Insn& insn, const std::vector<Uop>& uops, bool use_src,
                 NestPlan* plan) const;

  Config config_;
  const Kernels& kernels_;
  Budget* memory_;
  std::unordered_map<std::string, std::unique_ptr<NestPlan>> plans_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_PLAN_H_
