#include "stream.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "error.h"
#include "verify.h"

namespace vta {
namespace {

uint32_t LoadLe32(const uint8_t* p) {
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

Range DramSpan(const Insn& insn, size_t elem_bytes) {
  const uint64_t begin = uint64_t{insn.dram_base} * elem_bytes;
  const uint64_t rows = insn.y_size == 0 ? 0 : insn.y_size - 1;
  return {begin, begin + (rows * insn.x_stride + insn.x_size) * elem_bytes};
}

}  // namespace

Stream::Stream(const Config& config, const Kernels& kernels, const uint8_t* bytes, size_t size,
               const Dram& dram, bool strict, OriginFn origin, const Limits& limits)
    : config_(config),
      kernels_(kernels),
      strict_(strict),
      limits_(limits),
      memory_(limits),
      origin_(std::move(origin)) {
  memory_.Take(MemoryOf(dram.bytes(), size / kInsnBytes, config_));
  insns_ = Decode(bytes, size, config_, strict, origin_);
  dram_.reserve(insns_.size());
  for (size_t i = 0; i < insns_.size(); ++i) {
    const Insn& insn = insns_[i];
    dram_.push_back(insn.is_mem() ? CheckMem(insn, i, config_, dram, strict, origin_) : nullptr);
    if (insn.is_nest()) CheckNest(insn, i, config_, strict, origin_);
    if (insn.op == Opcode::kLoad && insn.memory == Memory::kUop && insn.dram_elems() > 0) {
      uop_ranges_.push_back(DramSpan(insn, kUopBytes));
    }
  }
  uop_ranges_ = Union(std::move(uop_ranges_));
  for (size_t i = 0; i < insns_.size(); ++i) {
    const Insn& insn = insns_[i];
    if (insn.op != Opcode::kStore || insn.dram_elems() == 0) continue;
    const Range span = DramSpan(insn, config_.out_bytes());
    if (ReadsUops(span.begin, span.end)) {
      Fail(ErrorKind::kHazard, "STORE.dram_base", "must not write micro-ops that the program loads",
           "", Locate(i, origin_));
    }
  }
  steps_ = StepsOf(insns_, config_);
  CheckSteps(steps_, limits_);
  if (strict) CheckFinish(insns_, origin_);
  schedule_ = MakeSchedule(insns_, strict, origin_);
}

bool Stream::ReadsUops(uint64_t begin, uint64_t end) const {
  // The last range that begins before `end` reaches furthest.
  const auto after = std::lower_bound(uop_ranges_.begin(), uop_ranges_.end(), end,
                                      [](const Range& r, uint64_t e) { return r.begin < e; });
  return begin < end && after != uop_ranges_.begin() && begin < std::prev(after)->end;
}

void Stream::BindNest(size_t index, const std::vector<uint32_t>& uop,
                      const std::vector<bool>& written, const UopDecoder& decoder,
                      PlanCache* plans) {
  const Insn& insn = insns_[index];
  if (insn.steps() == 0) return;
  std::vector<Uop> uops;
  uops.reserve(insn.uop_end - insn.uop_begin);
  for (uint32_t u = insn.uop_begin; u < insn.uop_end; ++u) {
    if (strict_ && !written[u]) {
      Fail(ErrorKind::kHazard,
           std::string(kOpcodeNames[static_cast<int>(insn.op)]) + " uop[" + std::to_string(u) + "]",
           "must be written before it is read", "", Locate(index, origin_));
    }
    uops.push_back(decoder(uop[u]));
  }
  CheckIndices(insn, index, uops.data(), config_, strict_, origin_);
  nests_[index] = plans->Get(insn, uops.data());
}

void Stream::Bind(const Dram& dram, const std::vector<Range>& defined) {
  const UopDecoder decoder(config_);
  plans_ = nullptr;
  memory_.Reset(MemoryOf(dram.bytes(), insns_.size(), config_));
  auto plans = std::make_unique<PlanCache>(config_, kernels_, &memory_);
  nests_.assign(insns_.size(), NestRef());
  std::vector<uint32_t> uop(config_.uop_depth(), 0);
  std::vector<bool> written(config_.uop_depth(), false);
  // COMPUTE executes in order, so the micro-ops that an instruction sees do not depend on the other
  // modules.
  for (size_t i = 0; i < insns_.size(); ++i) {
    const Insn& insn = insns_[i];
    if (insn.is_nest()) BindNest(i, uop, written, decoder, plans.get());
    if (insn.op != Opcode::kLoad || insn.memory != Memory::kUop || insn.is_nop()) continue;
    size_t at = insn.sram_base;
    std::fill_n(uop.begin() + static_cast<ptrdiff_t>(at), insn.sram_elems(), 0);
    std::fill_n(written.begin() + static_cast<ptrdiff_t>(at), insn.sram_elems(), true);
    at += insn.y_pad_0 * insn.columns() + insn.x_pad_0;
    for (size_t row = 0; row < insn.y_size; ++row, at += insn.columns()) {
      const uint8_t* from = dram_[i] + row * insn.x_stride * kUopBytes;
      for (size_t x = 0; x < insn.x_size; ++x) uop[at + x] = LoadLe32(from + x * kUopBytes);
    }
  }
  if (strict_) {
    CheckHazards(insns_, schedule_, nests_, config_, dram, defined, origin_);
    CheckFinishWaits(insns_, schedule_, origin_);
  }
  plans_ = std::move(plans);
  bound_ = true;
}

Counters Stream::Count(size_t begin, size_t end) const {
  Counters c;
  for (size_t i = begin; i < std::min(end, insns_.size()); ++i) {
    const Insn& insn = insns_[i];
    ++c.insns;
    // Of ACC_8BIT the original counts what it fills, not what it reads.
    const Memory memory = insn.memory == Memory::kAcc8bit ? Memory::kAcc : insn.memory;
    const uint64_t bytes = insn.is_mem() ? insn.dram_elems() * config_.dram_bytes(memory) : 0;
    switch (insn.op) {
      case Opcode::kLoad:
        if (insn.memory == Memory::kUop) c.uop_bytes += bytes;
        if (insn.memory == Memory::kInp) c.inp_bytes += bytes;
        if (insn.memory == Memory::kWgt) c.wgt_bytes += bytes;
        if (memory == Memory::kAcc) c.acc_bytes += bytes;
        break;
      case Opcode::kStore:
        c.out_bytes += bytes;
        break;
      case Opcode::kGemm:
        if (!insn.reset) c.gemm_ops += insn.steps();
        break;
      case Opcode::kAlu:
        c.alu_ops += insn.steps();
        break;
      case Opcode::kFinish:
        break;
    }
  }
  return c;
}

}  // namespace vta
