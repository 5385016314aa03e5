#include "verify.h"

#include <algorithm>
#include <string>

#include "error.h"
#include "stream.h"
#include "zeroed_array.h"

namespace vta {
namespace {

std::string Name(const Insn& insn, const char* field) {
  return std::string(kOpcodeNames[static_cast<int>(insn.op)]) + "." + field;
}

// "acc": the scratchpad of a memory type.
const char* PadName(Memory memory) {
  switch (memory) {
    case Memory::kUop:
      return "uop";
    case Memory::kWgt:
      return "wgt";
    case Memory::kInp:
      return "inp";
    case Memory::kAcc:
    case Memory::kOut:
    case Memory::kAcc8bit:
      break;
  }
  return "acc";
}

void CheckDepth(const Insn& insn, const char* field, const char* pad, uint64_t end, size_t depth,
                size_t index, const OriginFn& origin) {
  if (end > depth) {
    Fail(ErrorKind::kCapacity, Name(insn, field),
         std::string("must address ") + pad + " elements below " + std::to_string(depth),
         std::to_string(end - 1), Locate(index, origin));
  }
}

void RequireZero(const Insn& insn, const char* field, uint32_t value, size_t index,
                 const OriginFn& origin) {
  if (value != 0) {
    Fail(ErrorKind::kDecode, Name(insn, field), "must be 0", std::to_string(value),
         Locate(index, origin));
  }
}

// The accesses that matter to one scratchpad element or DRAM granule: instruction index + 1, 0 for
// none. The readers of the module that writes are left out, as a module is ordered with itself.
struct Access {
  uint32_t writer;
  uint32_t reader[2];
};

class HazardChecker {
 public:
  HazardChecker(const std::vector<Insn>& insns, const Schedule& schedule,
                const std::vector<NestRef>& nests, const Config& config, const Dram& dram,
                const std::vector<Range>& defined, const OriginFn& origin)
      : insns_(insns),
        schedule_(schedule),
        nests_(nests),
        config_(config),
        origin_(origin),
        check_defined_(!defined.empty()),
        granule_(std::min(config.out_bytes(), config.wgt_bytes())),
        inp_(config.inp_depth()),
        wgt_(config.wgt_depth()),
        acc_(config.acc_depth()) {
    uint64_t total = 0;
    for (const Range& s : dram.segments()) {
      granules_.push_back({s.begin / granule_, (s.end + granule_ - 1) / granule_, total});
      total += granules_.back().end - granules_.back().begin;
    }
    dram_ = ZeroedArray<Access>(total);
    if (!check_defined_) return;
    defined_.resize(total, false);
    for (const Range& r : Union(defined)) {
      const uint64_t begin = r.begin / granule_, end = (r.end + granule_ - 1) / granule_;
      for (auto s = Segment(begin); s != granules_.end() && s->begin < end; ++s) {
        for (uint64_t g = std::max(begin, s->begin); g < std::min(end, s->end); ++g) {
          defined_[s->first + g - s->begin] = true;
        }
      }
    }
  }

  void Run() {
    for (uint32_t index : schedule_.order) Visit(index);
  }

 private:
  struct Granules {
    uint64_t begin, end;  // byte address / granule
    uint64_t first;       // index of the first one in dram_
  };

  // The first segment that ends after granule `g`.
  std::vector<Granules>::const_iterator Segment(uint64_t g) const {
    return std::upper_bound(granules_.begin(), granules_.end(), g,
                            [](uint64_t at, const Granules& s) { return at < s.end; });
  }

  std::string Who(uint32_t index) const { return Describe(index, insns_[index], origin_); }

  [[noreturn]] void FailUnwritten(uint32_t index, const std::string& what) const {
    Fail(ErrorKind::kHazard,
         std::string(kOpcodeNames[static_cast<int>(insns_[index].op)]) + " " + what,
         "must be written before it is read", "", Locate(index, origin_));
  }

  [[noreturn]] void FailRace(uint32_t first, const char* did, uint32_t second, const char* does,
                             const std::string& what) const {
    const Insn& a = insns_[first];
    const Insn& b = insns_[second];
    Fail(ErrorKind::kHazard, what,
         Who(first) + " must " + did + " it before " + Who(second) + " " + does + " it",
         "no token that orders them",
         std::string("let ") + kModuleNames[static_cast<int>(a.module)] + " push and " +
             kModuleNames[static_cast<int>(b.module)] + " pop one");
  }

  bool Ordered(uint32_t first, uint32_t second) const {
    return insns_[first].module == insns_[second].module || schedule_.Before(insns_, first, second);
  }

  template <typename NameFn>
  void Read(Access* access, uint32_t index, int reader, bool defined, NameFn name) const {
    if (access->writer == 0) {
      if (!defined) FailUnwritten(index, name());
    } else if (!Ordered(access->writer - 1, index)) {
      FailRace(access->writer - 1, "write", index, "reads", name());
    }
    if (reader >= 0) access->reader[reader] = index + 1;
  }

  template <typename NameFn>
  void Write(Access* access, uint32_t index, NameFn name) const {
    for (uint32_t& reader : access->reader) {
      if (reader != 0 && !Ordered(reader - 1, index)) {
        FailRace(reader - 1, "read", index, "overwrites", name());
      }
      reader = 0;
    }
    access->writer = index + 1;
  }

  // Reads or writes elements [begin, end) of a scratchpad; reader -1: the module that writes it.
  void ReadPad(std::vector<Access>* pad, const char* name, int64_t element, uint32_t index,
               int reader) const {
    Read(&(*pad)[static_cast<size_t>(element)], index, reader, false,
         [&] { return std::string(name) + "[" + std::to_string(element) + "]"; });
  }
  void WritePad(std::vector<Access>* pad, const char* name, int64_t element, uint32_t index) const {
    Write(&(*pad)[static_cast<size_t>(element)], index,
          [&] { return std::string(name) + "[" + std::to_string(element) + "]"; });
  }

  template <typename F>
  void ForEachGranule(const Insn& insn, F f) {
    const uint64_t bytes = config_.dram_bytes(insn.memory);
    for (uint64_t row = 0; row < insn.y_size; ++row) {
      const uint64_t begin = (insn.dram_base + row * insn.x_stride) * bytes;
      const uint64_t end = begin + insn.x_size * bytes;
      const auto s = Segment(begin / granule_);
      for (uint64_t g = begin / granule_; g < (end + granule_ - 1) / granule_; ++g) {
        f(s->first + g - s->begin, g * granule_);
      }
    }
  }

  static std::string DramName(uint64_t address) { return "dram byte " + std::to_string(address); }

  void VisitLoad(uint32_t index, const Insn& insn) {
    const int reader = insn.module == Module::kLoad ? 0 : 1;
    ForEachGranule(insn, [&](uint64_t g, uint64_t address) {
      const bool defined = !check_defined_ || defined_[g];
      // Micro-ops are never stored (Stream checks that), and may share a granule with bytes that
      // are.
      if (insn.memory == Memory::kUop) {
        if (!defined) FailUnwritten(index, DramName(address));
        return;
      }
      Read(&dram_[g], index, reader, defined, [&] { return DramName(address); });
    });
    if (insn.memory == Memory::kUop) return;
    std::vector<Access>* pad = insn.memory == Memory::kInp   ? &inp_
                               : insn.memory == Memory::kWgt ? &wgt_
                                                             : &acc_;
    for (uint64_t e = 0; e < insn.sram_elems(); ++e) {
      WritePad(pad, PadName(insn.memory), static_cast<int64_t>(insn.sram_base + e), index);
    }
  }

  void VisitStore(uint32_t index, const Insn& insn) {
    for (uint64_t e = 0; e < insn.sram_elems(); ++e) {
      const size_t element = insn.sram_base + e;
      ReadPad(&acc_, "acc", static_cast<int64_t>(element), index, 0);
      const uint32_t last = acc_[element].writer - 1;
      if (insns_[last].op == Opcode::kLoad || insns_[last].reset) {
        Fail(ErrorKind::kHazard, "STORE out[" + std::to_string(element) + "]",
             "must have a GEMM or ALU operation as its last write", Who(last),
             Locate(index, origin_));
      }
    }
    ForEachGranule(insn, [&](uint64_t g, uint64_t address) {
      Write(&dram_[g], index, [&] { return DramName(address); });
    });
  }

  void VisitNest(uint32_t index, const Insn& insn) {
    const NestRef& nest = nests_[index];
    if (nest.plan == nullptr) return;
    const NestPlan& plan = *nest.plan;
    const bool gemm = insn.op == Opcode::kGemm;
    if (gemm && !insn.reset) {
      for (int32_t e : plan.src) ReadPad(&inp_, "inp", nest.base.src + e, index, 0);
      for (int32_t e : plan.wgt) ReadPad(&wgt_, "wgt", nest.base.wgt + e, index, 0);
    } else if (!gemm && !insn.use_imm) {
      for (int32_t e : plan.src) ReadPad(&acc_, "acc", nest.base.src + e, index, -1);
    }
    for (int32_t e : plan.dst) {
      if (!insn.reset) ReadPad(&acc_, "acc", nest.base.dst + e, index, -1);
      WritePad(&acc_, "acc", nest.base.dst + e, index);
    }
    if (!gemm && plan.back_to_back != 0) {
      Fail(ErrorKind::kHazard, "ALU step " + std::to_string(plan.back_to_back),
           "must not touch the element that the step before it wrote", "", Locate(index, origin_));
    }
  }

  void Visit(uint32_t index) {
    const Insn& insn = insns_[index];
    if (insn.is_nop()) return;
    switch (insn.op) {
      case Opcode::kLoad:
        return VisitLoad(index, insn);
      case Opcode::kStore:
        return VisitStore(index, insn);
      case Opcode::kGemm:
      case Opcode::kAlu:
        return VisitNest(index, insn);
      case Opcode::kFinish:
        return;
    }
  }

  const std::vector<Insn>& insns_;
  const Schedule& schedule_;
  const std::vector<NestRef>& nests_;
  const Config& config_;
  const OriginFn& origin_;
  const bool check_defined_;
  const uint64_t granule_;
  std::vector<Granules> granules_;
  std::vector<Access> inp_, wgt_, acc_;
  ZeroedArray<Access> dram_;
  std::vector<bool> defined_;
};

}  // namespace

uint8_t* CheckMem(const Insn& insn, size_t index, const Config& config, const Dram& dram,
                  bool strict, const OriginFn& origin) {
  if (insn.is_nop()) return nullptr;
  if (insn.op == Opcode::kStore || (strict && insn.memory == Memory::kUop)) {
    RequireZero(insn, "y_pad_0", insn.y_pad_0, index, origin);
    RequireZero(insn, "y_pad_1", insn.y_pad_1, index, origin);
    RequireZero(insn, "x_pad_0", insn.x_pad_0, index, origin);
    RequireZero(insn, "x_pad_1", insn.x_pad_1, index, origin);
  }
  if (strict && insn.y_size == 0) {
    Fail(ErrorKind::kDecode, Name(insn, "y_size"), "must be at least 1", "0",
         Locate(index, origin));
  }
  if (strict && insn.memory == Memory::kUop && insn.y_size != 1) {
    Fail(ErrorKind::kDecode, Name(insn, "y_size"), "must be 1 for micro-ops",
         std::to_string(insn.y_size), Locate(index, origin));
  }
  CheckDepth(insn, "sram_base", PadName(insn.memory), insn.sram_base + insn.sram_elems(),
             config.depth(insn.memory), index, origin);
  if (insn.dram_elems() == 0) return nullptr;
  const uint64_t bytes = config.dram_bytes(insn.memory);
  const uint64_t span = (insn.y_size - uint64_t{1}) * insn.x_stride + insn.x_size;
  uint8_t* found = dram.Find(insn.dram_base * bytes, span * bytes);
  if (found != nullptr) return found;
  return dram.At(insn.dram_base * bytes, span * bytes, Name(insn, "dram_base"),
                 Locate(index, origin));
}

void CheckNest(const Insn& insn, size_t index, const Config& config, bool strict,
               const OriginFn& origin) {
  CheckDepth(insn, "uop_end", "uop", insn.uop_end, config.uop_depth(), index, origin);
  if (strict && insn.steps() == 0) {
    Fail(ErrorKind::kDecode, kOpcodeNames[static_cast<int>(insn.op)], "must have at least one step",
         "none", Locate(index, origin));
  }
  if (insn.steps() > kMaxSteps) {
    Fail(ErrorKind::kCapacity, kOpcodeNames[static_cast<int>(insn.op)],
         "must have at most " + std::to_string(kMaxSteps) + " steps", std::to_string(insn.steps()),
         Locate(index, origin));
  }
  const bool shift = strict && insn.op == Opcode::kAlu && insn.alu == AluOp::kShr;
  if (shift && !insn.use_imm && !config.shr_register) {
    Fail(ErrorKind::kDecode, "ALU.use_imm",
         "must be 1 for SHR, or SHR_REGISTER a capability of the machine", "0",
         Locate(index, origin));
  }
  if (shift && insn.use_imm && (insn.imm < -15 || insn.imm > 15)) {
    Fail(ErrorKind::kDecode, "ALU.imm", "must be in [-15, 15] for SHR", std::to_string(insn.imm),
         Locate(index, origin));
  }
}

void CheckIndices(const Insn& insn, size_t index, const Uop* uops, const Config& config,
                  bool strict, const OriginFn& origin) {
  uint64_t dst = 0, src = 0, wgt = 0;
  for (size_t u = 0; u < insn.uop_end - insn.uop_begin; ++u) {
    dst = std::max(dst, static_cast<uint64_t>(uops[u].dst));
    src = std::max(src, static_cast<uint64_t>(uops[u].src));
    wgt = std::max(wgt, static_cast<uint64_t>(uops[u].wgt));
  }
  const uint64_t o = insn.iter_out - 1, i = insn.iter_in - 1;
  const bool gemm = insn.op == Opcode::kGemm;
  CheckDepth(insn, "dst", "acc", dst + o * insn.dst_out + i * insn.dst_in + 1, config.acc_depth(),
             index, origin);
  // The original functional simulator checks src of an ALU with an immediate, too.
  if (gemm ? insn.reset : insn.use_imm && !strict) return;
  CheckDepth(insn, "src", gemm ? "inp" : "acc", src + o * insn.src_out + i * insn.src_in + 1,
             gemm ? config.inp_depth() : config.acc_depth(), index, origin);
  if (!gemm) return;
  CheckDepth(insn, "wgt", "wgt", wgt + o * insn.wgt_out + i * insn.wgt_in + 1, config.wgt_depth(),
             index, origin);
}

void CheckFinish(const std::vector<Insn>& insns, const OriginFn& origin) {
  for (size_t i = 0; i + 1 < insns.size(); ++i) {
    if (insns[i].op == Opcode::kFinish) {
      Fail(ErrorKind::kHazard, kOpcodeNames[static_cast<int>(insns[i + 1].op)],
           "must not follow FINISH", "", Locate(i + 1, origin));
    }
  }
  if (insns.empty() || insns.back().op != Opcode::kFinish) {
    Fail(ErrorKind::kHazard, "program", "must end with FINISH",
         insns.empty() ? "no instruction" : Describe(insns.size() - 1, insns.back(), origin),
         "append one that pops a token of the last STORE");
  }
}

void CheckFinishWaits(const std::vector<Insn>& insns, const Schedule& schedule,
                      const OriginFn& origin) {
  const uint32_t finish = static_cast<uint32_t>(insns.size() - 1);
  for (uint32_t i = 0; i < finish; ++i) {
    if (insns[i].module != Module::kCompute && !schedule.Before(insns, i, finish)) {
      Fail(ErrorKind::kHazard, "FINISH", "must wait until every instruction is done",
           "no token that orders " + Describe(i, insns[i], origin) + " before it",
           Locate(finish, origin));
    }
  }
}

void CheckHazards(const std::vector<Insn>& insns, const Schedule& schedule,
                  const std::vector<NestRef>& nests, const Config& config, const Dram& dram,
                  const std::vector<Range>& defined, const OriginFn& origin) {
  HazardChecker(insns, schedule, nests, config, dram, defined, origin).Run();
}

}  // namespace vta
