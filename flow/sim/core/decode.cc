#include "decode.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "error.h"

namespace vta {
namespace {

struct Place {
  int lsb;
  int bits;
};

int Bits(const FieldSpec& field, const Config& config) {
  uint32_t depth = 0;
  if (field.depths & kLogUopDepth) depth = std::max(depth, config.log_uop_depth());
  if (field.depths & kLogInpDepth) depth = std::max(depth, config.log_inp_depth());
  if (field.depths & kLogWgtDepth) depth = std::max(depth, config.log_wgt_depth());
  if (field.depths & kLogAccDepth) depth = std::max(depth, config.log_acc_depth());
  return static_cast<int>(field.plus + depth);
}

// Places fields LSB first as a C compiler places bit-fields of an integer of `unit` bits: one that
// would straddle a multiple of `unit` moves up to it. Throws ConfigError when they do not fit
// `limit` bits.
template <int kCount>
struct Layout {
  Place places[kCount];
  uint64_t covered[2] = {0, 0};

  Layout(const FieldSpec (&fields)[kCount], const Config& config, int unit, int limit) {
    int at = 0;
    for (int i = 0; i < kCount; ++i) {
      const int bits = Bits(fields[i], config);
      if (at / unit != (at + bits - 1) / unit) at = (at + unit - 1) / unit * unit;
      if (at + bits > limit) {
        Fail(ErrorKind::kConfig, std::string("config.") + fields[i].name,
             "must end at or below bit " + std::to_string(limit), std::to_string(at + bits),
             "choose smaller buffers or a larger block");
      }
      places[i] = {at, bits};
      covered[at >> 6] |= ~uint64_t{0} >> (64 - bits) << (at & 63);
      at += bits;
    }
  }

  uint32_t Get(const uint64_t (&words)[2], int index) const {
    const Place p = places[index];
    return static_cast<uint32_t>(words[p.lsb >> 6] >> (p.lsb & 63) &
                                 (~uint64_t{0} >> (64 - p.bits)));
  }
};

uint64_t LoadLe64(const uint8_t* p) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | p[i];
  return value;
}

std::string Hex(uint64_t high, uint64_t low) {
  char text[40];
  std::snprintf(text, sizeof(text), "0x%016llx%016llx", static_cast<unsigned long long>(high),
                static_cast<unsigned long long>(low));
  return text;
}

struct StreamDecoder {
  const Config& config;
  bool strict;
  const OriginFn& origin;
  Layout<mem::kCount> mem_layout{mem::kFields, config, 64, 128};
  Layout<gemm::kCount> gemm_layout{gemm::kFields, config, 64, 128};
  Layout<alu::kCount> alu_layout{alu::kFields, config, 64, 128};

  void CheckStray(const uint64_t (&words)[2], const uint64_t (&covered)[2], size_t index,
                  Opcode op) const {
    const uint64_t low = words[0] & ~covered[0], high = words[1] & ~covered[1];
    if (strict && (low != 0 || high != 0)) {
      Fail(ErrorKind::kDecode, kOpcodeNames[static_cast<int>(op)],
           "bits that no field covers must be 0", Hex(high, low), Locate(index, origin));
    }
  }

  void ReadMem(const uint64_t (&w)[2], size_t index, Insn* insn) const {
    const auto& l = mem_layout;
    CheckStray(w, l.covered, index, insn->op);
    const char* name = kOpcodeNames[static_cast<int>(insn->op)];
    const uint32_t memory = l.Get(w, mem::kMemoryType);
    if (memory > 5) {
      Fail(ErrorKind::kDecode, std::string(name) + ".memory_type", "must be in [0, 5]",
           std::to_string(memory), Locate(index, origin));
    }
    insn->memory = static_cast<Memory>(memory);
    insn->sram_base = l.Get(w, mem::kSramBase);
    insn->dram_base = l.Get(w, mem::kDramBase);
    insn->y_size = l.Get(w, mem::kYSize);
    insn->x_size = l.Get(w, mem::kXSize);
    insn->x_stride = l.Get(w, mem::kXStride);
    insn->y_pad_0 = l.Get(w, mem::kYPad0);
    insn->y_pad_1 = l.Get(w, mem::kYPad1);
    insn->x_pad_0 = l.Get(w, mem::kXPad0);
    insn->x_pad_1 = l.Get(w, mem::kXPad1);
    if (insn->op == Opcode::kStore) {
      insn->module = Module::kStore;
      if (!insn->is_nop() && insn->memory != Memory::kOut) {
        Fail(ErrorKind::kDecode, "STORE.memory_type", "must be OUT", kMemoryNames[memory],
             Locate(index, origin));
      }
      return;
    }
    if (insn->memory == Memory::kOut) {
      Fail(ErrorKind::kDecode, "LOAD.memory_type", "must not be OUT", kMemoryNames[memory],
           Locate(index, origin));
    }
    if (insn->memory == Memory::kAcc8bit && !config.acc_8bit) {
      Fail(ErrorKind::kDecode, "LOAD.memory_type", "ACC_8BIT must be a capability of the machine",
           "a machine without it", Locate(index, origin));
    }
    if (insn->memory == Memory::kInp || insn->memory == Memory::kWgt) insn->module = Module::kLoad;
  }

  template <typename L>
  void ReadNest(const L& l, const uint64_t (&w)[2], Insn* insn) const {
    insn->reset = l.Get(w, gemm::kReset) != 0;
    insn->uop_begin = l.Get(w, gemm::kUopBegin);
    insn->uop_end = l.Get(w, gemm::kUopEnd);
    insn->iter_out = l.Get(w, gemm::kIterOut);
    insn->iter_in = l.Get(w, gemm::kIterIn);
    insn->dst_out = l.Get(w, gemm::kDstFactorOut);
    insn->dst_in = l.Get(w, gemm::kDstFactorIn);
    insn->src_out = l.Get(w, gemm::kSrcFactorOut);
    insn->src_in = l.Get(w, gemm::kSrcFactorIn);
  }

  void ReadAlu(const uint64_t (&w)[2], size_t index, Insn* insn) const {
    const auto& l = alu_layout;
    CheckStray(w, l.covered, index, insn->op);
    ReadNest(l, w, insn);
    const uint32_t op = l.Get(w, alu::kAluOpcode);
    if (op > 4) {
      Fail(ErrorKind::kDecode, "ALU.alu_opcode", "must be in [0, 4]", std::to_string(op),
           Locate(index, origin));
    }
    insn->alu = static_cast<AluOp>(op);
    if (insn->alu == AluOp::kMul && !config.mul) {
      Fail(ErrorKind::kDecode, "ALU.alu_opcode", "MUL must be a capability of the machine",
           "a machine without it", Locate(index, origin));
    }
    insn->use_imm = l.Get(w, alu::kUseImm) != 0;
    insn->imm = static_cast<int16_t>(l.Get(w, alu::kImm));
    insn->reset = false;  // ignored, as in the functional simulator
  }

  Insn Read(const uint8_t* bytes, size_t index) const {
    const uint64_t w[2] = {LoadLe64(bytes), LoadLe64(bytes + 8)};
    const uint32_t opcode = static_cast<uint32_t>(w[0] & 7);
    if (opcode > 4) {
      Fail(ErrorKind::kDecode, "insn.opcode", "must be in [0, 4]", std::to_string(opcode),
           Locate(index, origin));
    }
    Insn insn;
    insn.op = static_cast<Opcode>(opcode);
    insn.pop_prev = mem_layout.Get(w, mem::kPopPrev) != 0;
    insn.pop_next = mem_layout.Get(w, mem::kPopNext) != 0;
    insn.push_prev = mem_layout.Get(w, mem::kPushPrev) != 0;
    insn.push_next = mem_layout.Get(w, mem::kPushNext) != 0;
    switch (insn.op) {
      case Opcode::kLoad:
      case Opcode::kStore:
        ReadMem(w, index, &insn);
        break;
      case Opcode::kGemm:
        CheckStray(w, gemm_layout.covered, index, insn.op);
        ReadNest(gemm_layout, w, &insn);
        insn.wgt_out = gemm_layout.Get(w, gemm::kWgtFactorOut);
        insn.wgt_in = gemm_layout.Get(w, gemm::kWgtFactorIn);
        break;
      case Opcode::kAlu:
        ReadAlu(w, index, &insn);
        break;
      case Opcode::kFinish:
        if (strict && (w[0] >> 7 != 0 || w[1] != 0)) {
          Fail(ErrorKind::kDecode, "FINISH", "bits other than opcode and tokens must be 0",
               Hex(w[1], w[0] >> 7 << 7), Locate(index, origin));
        }
        break;
    }
    return insn;
  }
};

}  // namespace

std::string Locate(size_t index, const OriginFn& origin) {
  std::string text = "insn " + std::to_string(index);
  const std::string from = origin ? origin(index) : std::string();
  return from.empty() ? text : text + ", " + from;
}

std::string Describe(size_t index, const Insn& insn, const OriginFn& origin) {
  std::string text =
      "insn " + std::to_string(index) + " " + kOpcodeNames[static_cast<int>(insn.op)];
  if (insn.op == Opcode::kLoad) {
    text += std::string(" ") + kMemoryNames[static_cast<int>(insn.memory)];
  }
  const std::string from = origin ? origin(index) : std::string();
  return from.empty() ? text : text + " (" + from + ")";
}

std::vector<Insn> Decode(const uint8_t* bytes, size_t size, const Config& config, bool strict,
                         const OriginFn& origin) {
  if (size % kInsnBytes != 0) {
    Fail(ErrorKind::kDecode, "stream",
         "must be a multiple of " + std::to_string(kInsnBytes) + " bytes", std::to_string(size),
         "is it truncated?");
  }
  const StreamDecoder decoder{config, strict, origin};
  std::vector<Insn> insns;
  insns.reserve(size / kInsnBytes);
  for (size_t i = 0; i < size / kInsnBytes; ++i) {
    insns.push_back(decoder.Read(bytes + i * kInsnBytes, i));
  }
  return insns;
}

int AluLsb(const Config& config, alu::Index field) {
  return Layout<alu::kCount>(alu::kFields, config, 64, 128).places[field].lsb;
}

UopDecoder::UopDecoder(const Config& config) {
  const Layout<uop::kCount> layout(uop::kFields, config, 32, 32);
  for (int i = 0; i < uop::kCount; ++i) {
    const Place p = layout.places[i];
    shift_[i] = p.lsb;
    mask_[i] = ~uint32_t{0} >> (32 - p.bits);
  }
}

Uop UopDecoder::operator()(uint32_t word) const {
  Uop u;
  u.dst = static_cast<int32_t>(word >> shift_[uop::kDstIdx] & mask_[uop::kDstIdx]);
  u.src = static_cast<int32_t>(word >> shift_[uop::kSrcIdx] & mask_[uop::kSrcIdx]);
  u.wgt = static_cast<int32_t>(word >> shift_[uop::kWgtIdx] & mask_[uop::kWgtIdx]);
  return u;
}

}  // namespace vta
