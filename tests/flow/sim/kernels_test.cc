// Random programs on every kernel that this processor has, prepared and instruction by instruction,
// against an interpreter that says the meaning as plainly as it can be said.
#include "kernels.h"

#include <cstring>
#include <optional>

#include "core_case.h"
#include "fsim.h"

namespace vta {
namespace {

constexpr const char* kNames[] = {"plain", "avx2", "avx512bw", "avx512vnni",
                                  "amx",   "neon", "neon_dot", "amx_model"};

uint32_t Shift(uint32_t a, int32_t n) {
  const int64_t value = static_cast<int32_t>(a);
  if (n >= 0) return static_cast<uint32_t>(value >> std::min(n, 31));
  return n <= -32 ? 0 : a << -n;
}

// Lane i of what lies at `from`, of 8 or 4 bits.
int8_t LaneAt(const uint8_t* from, size_t i, uint32_t bits) {
  const uint8_t byte = from[i * bits / 8];
  if (bits == 8) return static_cast<int8_t>(byte);
  const int value = i % 2 == 0 ? byte & 15 : byte >> 4;
  return static_cast<int8_t>(value < 8 ? value : value - 16);
}

// The machine and its memory.
struct Interpreter {
  explicit Interpreter(const Case& c)
      : config(c.config),
        arena(c.arena),
        inp(config.inp_depth() * config.lanes()),
        wgt(config.wgt_depth() * config.block() * config.block()),
        acc(config.acc_depth() * config.lanes()),
        uops(c.uops),
        insns(Decode(c.stream.data(), c.stream.size(), c.config, true, nullptr)) {}

  void Run() {
    for (const Insn& n : insns) {
      if (n.op == Opcode::kLoad && n.memory != Memory::kUop) Load(n);
      if (n.op == Opcode::kStore) Store(n);
      if (n.is_nest()) Nest(n);
    }
  }

  void Load(const Insn& n) {
    const size_t columns = n.columns();
    for (size_t e = 0; e < n.sram_elems(); ++e) {
      const size_t y = e / columns - n.y_pad_0, x = e % columns - n.x_pad_0;
      const bool inside = y < n.y_size && x < n.x_size;
      const size_t from = n.dram_base + y * n.x_stride + x, to = n.sram_base + e;
      if (n.memory == Memory::kAcc) {
        for (size_t i = 0; i < config.lanes(); ++i) {
          uint32_t value = 0;
          for (size_t b = 0; inside && b < 4; ++b) {
            value |= uint32_t{arena[(from * config.lanes() + i) * 4 + b]} << 8 * b;
          }
          acc[to * config.lanes() + i] = value;
        }
        continue;
      }
      const bool is_inp = n.memory == Memory::kInp;
      const size_t lanes = is_inp ? config.lanes() : config.block() * config.block();
      const uint32_t bits = is_inp ? config.inp_bits() : config.wgt_bits();
      for (size_t i = 0; i < lanes; ++i) {
        (is_inp ? inp : wgt)[to * lanes + i] =
            inside ? LaneAt(arena.data(), from * lanes + i, bits) : int8_t{0};
      }
    }
  }

  void Store(const Insn& n) {
    const size_t lanes = config.lanes();
    for (size_t y = 0; y < n.y_size; ++y) {
      for (size_t i = 0; i < n.x_size * lanes; ++i) {
        const size_t at = (n.dram_base + y * n.x_stride) * lanes + i;
        const uint32_t value = acc[(n.sram_base + y * n.x_size) * lanes + i];
        if (config.inp_bits() == 8) {
          arena[at] = static_cast<uint8_t>(value);
        } else {
          uint8_t& byte = arena[at / 2];
          const uint32_t shift = at % 2 * 4;
          byte = static_cast<uint8_t>((byte & ~(15U << shift)) | (value & 15) << shift);
        }
      }
    }
  }

  void Nest(const Insn& n) {
    for (size_t o = 0; o < n.iter_out; ++o) {
      for (size_t i = 0; i < n.iter_in; ++i) {
        for (size_t u = n.uop_begin; u < n.uop_end; ++u) Step(n, o, i, uops[u]);
      }
    }
  }

  void Step(const Insn& n, size_t o, size_t i, const Uop& uop) {
    const size_t lanes = config.lanes(), block = config.block();
    const size_t d = (static_cast<size_t>(uop.dst) + o * n.dst_out + i * n.dst_in) * lanes;
    const size_t s = (static_cast<size_t>(uop.src) + o * n.src_out + i * n.src_in) * lanes;
    const size_t w = (static_cast<size_t>(uop.wgt) + o * n.wgt_out + i * n.wgt_in) * block * block;
    for (size_t lane = 0; lane < lanes; ++lane) {
      uint32_t& a = acc[d + lane];
      if (n.op == Opcode::kGemm) {
        if (n.reset) a = 0;
        for (size_t x = 0; !n.reset && x < block; ++x) {
          a += static_cast<uint32_t>(inp[s + lane / block * block + x] *
                                     wgt[w + lane % block * block + x]);
        }
        continue;
      }
      const uint32_t b = n.use_imm ? static_cast<uint32_t>(n.imm) : acc[s + lane];
      const int32_t x = static_cast<int32_t>(a), y = static_cast<int32_t>(b);
      if (n.alu == AluOp::kMin) a = static_cast<uint32_t>(std::min(x, y));
      if (n.alu == AluOp::kMax) a = static_cast<uint32_t>(std::max(x, y));
      if (n.alu == AluOp::kAdd) a += b;
      if (n.alu == AluOp::kShr) a = Shift(a, y);
      if (n.alu == AluOp::kMul) a *= b;
    }
  }

  Config config;
  std::vector<uint8_t> arena;
  std::vector<int8_t> inp, wgt;
  std::vector<uint32_t> acc;
  std::vector<Uop> uops;
  std::vector<Insn> insns;
};

bool Same(const FSim& sim, const Interpreter& want) {
  return std::memcmp(sim.Read(0, want.arena.size()), want.arena.data(), want.arena.size()) == 0;
}

void TestNests() {
  Random random(1);
  int ran = 0;
  for (uint32_t log_block = 2; log_block <= 7; ++log_block) {
    for (uint32_t log_batch : {0U, 1U}) {
      for (uint32_t n = 0; n < 24; ++n) {
        const bool narrow = n >= 12;  // int4 inp, wgt or both
        const Config config = MakeConfig(log_batch, log_block, narrow && n % 3 != 0 ? 2 : 3,
                                         narrow && n % 3 != 1 ? 2 : 3);
        const Case c = MakeCase(config, &random, 1 + static_cast<int>(n % 5));
        Interpreter want(c);
        want.Run();
        for (const char* kernels : kNames) {
          if (ChooseKernels(kernels, config.block()) == nullptr) continue;
          FSim sim(config, c.stream.data(), c.stream.size(), {{0, config.arena_bytes}}, false,
                   nullptr, kernels);
          for (int order = 0; order < 3; ++order) {
            sim.Write(0, c.arena.data(), c.arena.size());
            sim.Run(order == 0 ? std::nullopt : std::optional<uint64_t>(order), {});
            CHECK(Same(sim, want));
          }
          ++ran;
        }
      }
    }
  }
  CHECK(ran >= 144);
}

// What the instructions of a layer do to sums, in any order: clears, products with constants and
// with what was stored, clips, moves. Sums often have the same rows or read the same inp.
Case MakeSums(const Config& config, Random* random) {
  Case c;
  c.config = config;
  c.arena.resize(config.arena_bytes);
  for (uint8_t& byte : c.arena) byte = static_cast<uint8_t>((*random)());
  const size_t block = config.block(), wgt_bytes = config.wgt_bytes();
  for (size_t e = 0; e < 24; ++e) {  // constants: any, a diagonal, zeros
    const uint32_t kind = Below(random, 4);
    for (size_t o = 0; kind >= 2 && o < block; ++o) {
      for (size_t i = 0; i < block; ++i) {
        if (kind == 2 && o == i) continue;
        const size_t lane = o * block + i;
        uint8_t& byte = c.arena[kWgt + e * wgt_bytes + lane * config.wgt_bits() / 8];
        byte = config.wgt_bits() == 8 ? 0 : byte & (lane % 2 == 0 ? 0xf0 : 0x0f);
      }
    }
  }
  // Three micro-ops for each of four sums.
  const bool alike = Below(random, 4) != 0;
  for (int u = 0; u < kUops; ++u) {
    const int32_t src = static_cast<int32_t>(Below(random, 12));
    c.uops.push_back({u / 3 * 6, u >= 3 && alike ? c.uops[static_cast<size_t>(u) - 3].src : src,
                      static_cast<int32_t>(Below(random, 14))});
    Encode(uop::kFields, config, 32,
           {{uop::kDstIdx, c.uops.back().dst},
            {uop::kSrcIdx, c.uops.back().src},
            {uop::kWgtIdx, c.uops.back().wgt}},
           &c.arena[kUop + static_cast<size_t>(u) * kUopBytes]);
  }
  const auto at = [&](Memory memory, uint64_t base, uint32_t elements) {
    return base + Below(random, elements) * config.dram_bytes(memory);
  };
  c.Mem(Opcode::kLoad, Memory::kUop, kUop, kUops, {{mem::kYSize, 1}});
  c.Mem(Opcode::kLoad, Memory::kAcc, kAcc, 32, {{mem::kYSize, 1}});
  c.Mem(Opcode::kLoad, Memory::kInp, kInp, 32, {{mem::kYSize, 1}});
  const int64_t out = 1 + Below(random, 2), in = 1 + Below(random, 4);
  if (Below(random, 3) == 0) {  // with the weights of the run before
    c.Add({{gemm::kUopBegin, 0}, {gemm::kUopEnd, kUops}, {gemm::kIterOut, 1}, {gemm::kIterIn, 1}},
          Opcode::kGemm);
  }
  c.Mem(Opcode::kLoad, Memory::kWgt, kWgt, 16, {{mem::kYSize, 1}});
  for (uint32_t n = 12 + Below(random, 20); n > 0; --n) {
    const uint32_t kind = Below(random, 16);
    const int64_t sum = Below(random, 4), first = sum * 3;
    const Values nest = {{gemm::kIterOut, out},         {gemm::kIterIn, in},
                         {gemm::kDstFactorOut, in},     {gemm::kDstFactorIn, 1},
                         {gemm::kSrcFactorOut, in + 1}, {gemm::kSrcFactorIn, kind % 2}};
    Values v = nest;
    if (kind < 7) {  // products, of one sum or of several
      v.emplace_back(gemm::kUopBegin, first + Below(random, 2));
      v.emplace_back(gemm::kUopEnd, Below(random, 4) == 0 ? kUops : first + 3);
      if (in > 1 && Below(random, 2) == 0) v[1].second = in - 1;  // most rows
      c.Add(v, Opcode::kGemm);
    } else if (kind < 9) {
      v.emplace_back(gemm::kUopBegin, first);
      v.emplace_back(gemm::kUopEnd, first + 1);
      v.emplace_back(gemm::kReset, 1);
      c.Add(v, Opcode::kGemm);
    } else if (kind < 13) {  // the steps of a clip, and others
      const Values whole = {{gemm::kUopBegin, first}, {gemm::kUopEnd, first + 1}};
      v.insert(v.end(), whole.begin(), whole.end());
      const uint32_t op = Below(random, 6);
      const AluOp ops[] = {AluOp::kShr, AluOp::kMax, AluOp::kMin, AluOp::kAdd};
      v.emplace_back(alu::kAluOpcode, static_cast<int>(ops[op % 4]));
      v.emplace_back(alu::kUseImm, Below(random, 5) != 0);
      v.emplace_back(alu::kImm, static_cast<int64_t>(Below(random, 60)) - 20);
      c.Add(v, Opcode::kAlu);
    } else if (kind == 13) {
      const uint32_t to = Below(random, 24);
      c.Mem(Opcode::kLoad, Memory::kInp, at(Memory::kInp, kInp, 16), 1 + Below(random, 3),
            {{mem::kYSize, 1 + Below(random, 2)}, {mem::kSramBase, to}, {mem::kXPad0, to % 2}});
    } else if (kind == 14) {
      const uint32_t to = Below(random, 12);
      c.Mem(Opcode::kLoad, Memory::kWgt, at(Memory::kWgt, kWgt, 20), 1 + Below(random, 2),
            {{mem::kYSize, 1}, {mem::kSramBase, to}, {mem::kXPad1, to % 2}});
    } else {  // rarely over constants
      const uint64_t to = Below(random, 8) == 0 ? kWgt + 18 * wgt_bytes : kOut;
      c.Mem(Opcode::kStore, Memory::kOut, at(Memory::kOut, to, 8), 1 + Below(random, 8),
            {{mem::kYSize, 1}, {mem::kSramBase, Below(random, 24)}});
    }
  }
  c.Mem(Opcode::kStore, Memory::kOut, kOut + 1024 * config.out_bytes(), 32, {{mem::kYSize, 1}});
  c.Add({}, Opcode::kFinish);
  return c;
}

// Runs that follow each other: scratchpads keep what they hold, and weights may change in between.
void TestSums(uint32_t programs) {
  Random random(7);
  for (uint32_t n = 0; n < programs; ++n) {
    const bool narrow = n % 5 == 4;
    const Config config = MakeConfig(n % 7 == 6 ? 1 : 0, n % 11 == 10 ? 3 + n % 4 : 4,
                                     narrow ? 2 + n % 2 : 3, narrow ? 2 + n / 2 % 2 : 3);
    const Case c = MakeSums(config, &random);
    const uint32_t seed = Below(&random, 1 << 20);
    for (const char* kernels : kNames) {
      if (ChooseKernels(kernels, config.block()) == nullptr) continue;
      FSim sim(config, c.stream.data(), c.stream.size(), {{0, config.arena_bytes}}, false, nullptr,
               kernels);
      Interpreter want(c);
      sim.Write(0, c.arena.data(), c.arena.size());
      Random change(seed);
      for (int run = 0; run < 5; ++run) {
        sim.Run(std::nullopt, {});
        want.Run();
        CHECK(Same(sim, want));
        const size_t at = kWgt + Below(&change, 24) * config.wgt_bytes();
        if (Below(&change, 2) == 0) continue;
        want.arena[at] = static_cast<uint8_t>(change());
        sim.Write(at, &want.arena[at], 1);
      }
    }
  }
}

// A GEMM of random shape, its operands as a program has them: int8.
struct Call {
  static constexpr size_t kElements = 64;  // of inp and of wgt

  explicit Call(Random* random)
      : block(size_t{16} << Below(random, 4)),
        inp(kElements * block),
        wgt(kElements * block * block),
        acc(kMostColumns * kMostRows * kColumn),
        init(kMostColumns * kColumn) {
    for (int8_t& lane : inp) lane = static_cast<int8_t>((*random)());
    for (int8_t& lane : wgt) lane = static_cast<int8_t>((*random)());
    for (int32_t& lane : acc) lane = static_cast<int32_t>((*random)());
    for (int32_t& lane : init) lane = static_cast<int32_t>((*random)());
    args.block = block;
    args.columns = 1 + Below(random, kMostColumns);
    args.row_count = 1 + Below(random, kMostRows);
    args.fresh = Below(random, 2) == 0;
    clip = {static_cast<int32_t>(Below(random, 32)), -static_cast<int32_t>(Below(random, 99)), 99};
    if (Below(random, 2) == 0) args.clip = &clip;
    for (uint32_t n = Below(random, 4); n > 0; --n) {
      Term term;
      term.in_order = Below(random, 2) == 0;
      const uint32_t taps = Below(random, static_cast<uint32_t>(640 / block));
      const uint32_t parts = static_cast<uint32_t>(kElements * block / kColumn);
      for (uint32_t t = 0; t < taps; ++t) {
        term.src.push_back(Below(random, kElements / 2));
        for (size_t c = 0; c < args.columns; ++c) {
          const bool next = term.in_order && t > 0;
          term.parts.push_back(next ? term.parts[term.parts.size() - args.columns] + 1
                                    : Below(random, parts - taps));
        }
      }
      for (size_t r = 0; r < args.row_count; ++r) term.rows.push_back(Below(random, kElements / 2));
      terms.push_back(term);
    }
    for (uint32_t n = Below(random, 4); n > 0; --n) {
      diagonals.push_back({Below(random, kElements / 2), Below(random, 100),
                           Below(random, static_cast<uint32_t>(args.columns))});
    }
  }

  // What acc must be.
  std::vector<int32_t> Want() const {
    std::vector<int32_t> want = acc;
    for (size_t c = 0; c < args.columns; ++c) {
      for (size_t r = 0; r < args.row_count; ++r) {
        for (size_t o = 0; o < kColumn; ++o) {
          int32_t& out = want[(c * kMostRows + r) * kColumn + o];
          uint32_t sum = static_cast<uint32_t>(init[c * kColumn + o]);
          if (!args.fresh) sum += static_cast<uint32_t>(out);
          for (const Term& term : terms) {
            for (size_t t = 0; t < term.src.size(); ++t) {
              const int8_t* x = &inp[(term.rows[r] + term.src[t]) * block];
              const int8_t* w = &wgt[(term.parts[t * args.columns + c] * kColumn + o) * block];
              for (size_t i = 0; i < block; ++i) sum += static_cast<uint32_t>(x[i] * w[i]);
            }
          }
          for (const Diagonal& d : diagonals) {
            if (d.column == c) sum += static_cast<uint32_t>(inp[d.src * block + o] * d.factor);
          }
          out = static_cast<int32_t>(sum);
          if (args.clip == nullptr) continue;
          out = std::min(std::max(out >> clip.shift, clip.low), clip.high);
        }
      }
    }
    return want;
  }

  // What kernels make of it.
  std::vector<int32_t> Run(const Kernels& kernels) const {
    const size_t elem = kernels.wgt_bytes(block), lane = kernels.inp_lane_bytes;
    AlignedBytes x(inp.size() * lane), w(kElements * elem + kLinesBehind * kLineBytes);
    std::vector<int32_t> corrections(kElements * block), out = acc, own_init = init;
    kernels.pack_inp(reinterpret_cast<const uint8_t*>(inp.data()), x.data(), inp.size());
    for (size_t e = 0; e < kElements; ++e) {
      kernels.pack_wgt(reinterpret_cast<const uint8_t*>(&wgt[e * block * block]),
                       w.data() + e * elem, block, &corrections[e * block]);
    }
    GemmArgs call = args;
    std::vector<std::vector<GemmRow>> rows(1 + terms.size());
    std::vector<std::vector<int32_t>> src(terms.size());
    std::vector<std::vector<uint32_t>> lines(terms.size());
    std::vector<GemmTerm> packed;
    const auto bytes = [&](uint32_t element) {
      return static_cast<int32_t>(element * block * lane);
    };
    const auto correct = [&](size_t c, size_t o, int32_t by) {
      uint32_t sum = static_cast<uint32_t>(own_init[c * kColumn + o]);
      sum += kernels.corrected ? static_cast<uint32_t>(by) : 0;
      own_init[c * kColumn + o] = static_cast<int32_t>(sum);
    };
    for (size_t r = 0; r < args.row_count; ++r) {
      rows.back().push_back({static_cast<int32_t>(r * kColumn), 0});
    }
    for (size_t n = 0; n < terms.size(); ++n) {
      const Term& term = terms[n];
      for (const uint32_t row : term.rows) rows[n].push_back({0, bytes(row)});
      for (const uint32_t from : term.src) src[n].push_back(bytes(from));
      for (size_t p = 0; p < term.parts.size(); ++p) {
        lines[n].push_back(static_cast<uint32_t>(term.parts[p] * block * lane / 4));
        for (size_t o = 0; o < kColumn; ++o) {
          correct(p % args.columns, o, corrections[term.parts[p] * kColumn + o]);
        }
      }
      packed.push_back(
          {rows[n].data(), x.data(), src[n].data(), lines[n].data(), src[n].size(), term.in_order});
    }
    std::vector<std::vector<int32_t>> factors;
    std::vector<GemmDiagonal> packed_diagonals;
    for (const Diagonal& d : diagonals) {
      const int32_t factor = static_cast<int32_t>(d.factor);
      factors.emplace_back(kColumn, factor);
      packed_diagonals.push_back(
          {rows.back().data(), x.data() + bytes(d.src), factors.back().data(), d.column});
      for (size_t o = 0; o < kColumn; ++o) correct(d.column, o, -kernels.inp_zero * factor);
    }
    for (size_t c = 0; c < args.columns; ++c) {
      call.acc[c] = &out[c * kMostRows * kColumn];
      call.init[c] = &own_init[c * kColumn];
    }
    call.rows = rows.back().data();
    call.wgt = w.data();
    call.terms = packed.data();
    call.term_count = packed.size();
    call.diagonals = packed_diagonals.data();
    call.diagonal_count = packed_diagonals.size();
    const KernelsInUse in_use(kernels);
    kernels.gemm(call);
    return out;
  }

  static constexpr uint32_t kMostRows = 70;
  struct Term {
    std::vector<uint32_t> rows, src;  // elements
    std::vector<uint32_t> parts;      // [tap][column]: 16 rows of an element
    bool in_order;
  };
  struct Diagonal {
    uint32_t src, factor, column;  // one factor for all lanes
  };
  size_t block;
  std::vector<int8_t> inp, wgt;
  std::vector<int32_t> acc, init;
  Clip clip;
  GemmArgs args;
  std::vector<Term> terms;
  std::vector<Diagonal> diagonals;
};

// Calls of more columns, rows and taps than random programs lead to.
void TestCalls(uint32_t calls) {
  Random random(3);
  for (uint32_t n = 0; n < calls; ++n) {
    const Call call(&random);
    const std::vector<int32_t> want = call.Want();
    for (const char* name : kNames) {
      const Kernels* kernels = ChooseKernels(name, call.block);
      if (kernels != nullptr) CHECK(call.Run(*kernels) == want);
    }
  }
}

}  // namespace

void TestKernels(uint32_t programs) {
  TestCalls(programs / 5);
  if (programs >= 100) TestNests();
  TestSums(programs);
}

}  // namespace vta
