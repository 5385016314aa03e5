// Tests of the core without Python, to be run under sanitizers; reads nothing and needs no library.
// Every kernel is compared with a plain loop over random programs, damaged streams and files must
// fail with an Error, and orders must not matter.
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "engine.h"
#include "error.h"
#include "fsim.h"
#include "program.h"
#include "text.h"

namespace vta {
namespace {

int failures = 0;

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      std::printf("%s:%d: must hold: %s\n", __FILE__, __LINE__, #condition); \
      ++failures;                                                            \
    }                                                                        \
  } while (false)

using Random = std::mt19937;

uint32_t Below(Random* random, uint32_t limit) { return (*random)() % limit; }

Config MakeConfig(uint32_t log_batch, uint32_t log_block, uint32_t log_inp = 3,
                  uint32_t log_wgt = 3) {
  uint32_t words[kConfigWords] = {log_inp, log_wgt, 5, log_batch, log_block};
  words[config_word::kLogUopBuffBytes] = 8;  // 64 micro-ops
  words[config_word::kLogInpBuffBytes] =
      log_batch + log_block + log_inp - 3 + 5;                             // 32 inp elements
  words[config_word::kLogWgtBuffBytes] = 2 * log_block + log_wgt - 3 + 4;  // 16 wgt elements
  words[config_word::kLogAccBuffBytes] = log_batch + log_block + 2 + 5;    // 32 acc elements
  words[config_word::kBusBits] = 64;
  words[config_word::kCapabilities] = 3;
  words[config_word::kClockHz] = 100000000;
  words[config_word::kArenaBytes] = 1 << 20;
  words[config_word::kBurstBeats] = 16;
  return Config::FromWords(words);
}

// Places values into bit-fields, from the same table as the decoder.
template <int kCount>
void Encode(const FieldSpec (&fields)[kCount], const Config& config, int word_bits,
            const std::vector<std::pair<int, int64_t>>& values, uint8_t* bytes) {
  uint64_t words[2] = {0, 0};
  int at = 0;
  for (int i = 0; i < kCount; ++i) {
    uint32_t depth = 0;
    if (fields[i].depths & kLogUopDepth) depth = std::max(depth, config.log_uop_depth());
    if (fields[i].depths & kLogInpDepth) depth = std::max(depth, config.log_inp_depth());
    if (fields[i].depths & kLogWgtDepth) depth = std::max(depth, config.log_wgt_depth());
    if (fields[i].depths & kLogAccDepth) depth = std::max(depth, config.log_acc_depth());
    const int bits = static_cast<int>(fields[i].plus + depth);
    if (at < 64 && at + bits > 64) at = 64;  // a bit-field of uint64_t does not straddle
    for (const auto& [index, value] : values) {
      if (index != i) continue;
      const uint64_t mask = ~uint64_t{0} >> (64 - bits);
      words[at >> 6] |= (static_cast<uint64_t>(value) & mask) << (at & 63);
    }
    at += bits;
  }
  for (int b = 0; b < word_bits / 8; ++b) {
    bytes[b] = static_cast<uint8_t>(words[b >> 3] >> (8 * (b & 7)));
  }
}

using Values = std::vector<std::pair<int, int64_t>>;

// Where the parts of the test programs lie in the arena.
constexpr uint64_t kUop = 0, kWgt = 1 << 16, kInp = 1 << 18, kAcc = 1 << 19, kOut = 3 << 18;
constexpr int kUops = 12;

struct Case {
  Config config;
  std::vector<uint8_t> stream;
  std::vector<uint8_t> arena;  // before the run
  std::vector<Uop> uops;

  void Add(const Values& values, Opcode op) {
    uint8_t bytes[kInsnBytes];
    Values all = values;
    all.emplace_back(mem::kOpcode, static_cast<int>(op));
    if (op == Opcode::kAlu) {
      Encode(alu::kFields, config, 128, all, bytes);
    } else if (op == Opcode::kGemm || op == Opcode::kFinish) {
      Encode(gemm::kFields, config, 128, all, bytes);
    } else {
      Encode(mem::kFields, config, 128, all, bytes);
    }
    stream.insert(stream.end(), bytes, bytes + kInsnBytes);
  }

  void Mem(Opcode op, Memory memory, uint64_t address, uint32_t x, Values more) {
    more.insert(more.end(),
                {{mem::kMemoryType, static_cast<int>(memory)},
                 {mem::kDramBase, static_cast<int64_t>(address / config.dram_bytes(memory))},
                 {mem::kXSize, x},
                 {mem::kXStride, x}});
    Add(more, op);
  }
};

// Loads everything, then GEMM and ALU with random nests, then stores all of acc.
Case MakeCase(const Config& config, Random* random, int nests) {
  Case c;
  c.config = config;
  c.arena.resize(config.arena_bytes);
  for (uint8_t& byte : c.arena) byte = static_cast<uint8_t>((*random)());
  for (int u = 0; u < kUops; ++u) {
    c.uops.push_back({static_cast<int32_t>(Below(random, 12)),
                      static_cast<int32_t>(Below(random, 12)),
                      static_cast<int32_t>(Below(random, 6))});
    uint8_t* at = &c.arena[kUop + static_cast<size_t>(u) * kUopBytes];
    Encode(uop::kFields, config, 32,
           {{uop::kDstIdx, c.uops.back().dst},
            {uop::kSrcIdx, c.uops.back().src},
            {uop::kWgtIdx, c.uops.back().wgt}},
           at);
  }
  c.Mem(Opcode::kLoad, Memory::kUop, kUop, kUops, {{mem::kYSize, 1}});
  c.Mem(Opcode::kLoad, Memory::kWgt, kWgt, 16, {{mem::kYSize, 1}});
  // 4 x 6 inp elements with a frame: 32 = (1 + 2 + 1) x (1 + 6 + 1).
  c.Mem(Opcode::kLoad, Memory::kInp, kInp, 6,
        {{mem::kYSize, 2},
         {mem::kYPad0, 1},
         {mem::kYPad1, 1},
         {mem::kXPad0, 1},
         {mem::kXPad1, 1},
         {mem::kPushNext, 1}});
  c.Mem(Opcode::kLoad, Memory::kAcc, kAcc, 32, {{mem::kYSize, 1}});
  for (int n = 0; n < nests; ++n) {
    const bool is_gemm = Below(random, 2) == 0;
    const int64_t begin = Below(random, kUops - 1);
    const int64_t end = begin + 1 + Below(random, static_cast<uint32_t>(kUops - begin));
    Values v = {{gemm::kUopBegin, begin},
                {gemm::kUopEnd, end},
                {gemm::kIterOut, 1 + Below(random, 3)},
                {gemm::kIterIn, 1 + Below(random, 3)},
                {gemm::kDstFactorOut, Below(random, 6)},
                {gemm::kDstFactorIn, Below(random, 4)},
                {gemm::kSrcFactorOut, Below(random, 6)},
                {gemm::kSrcFactorIn, Below(random, 4)}};
    if (n == 0) v.emplace_back(gemm::kPopPrev, 1);
    if (n == nests - 1) v.emplace_back(gemm::kPushNext, 1);
    if (is_gemm) {
      v.emplace_back(gemm::kReset, Below(random, 8) == 0);
      v.emplace_back(gemm::kWgtFactorOut, Below(random, 4));
      v.emplace_back(gemm::kWgtFactorIn, Below(random, 3));
    } else {
      v.emplace_back(alu::kAluOpcode, Below(random, 5));
      v.emplace_back(alu::kUseImm, Below(random, 2));
      v.emplace_back(alu::kImm, static_cast<int64_t>(Below(random, 80)) - 40);
    }
    c.Add(v, is_gemm ? Opcode::kGemm : Opcode::kAlu);
  }
  c.Mem(Opcode::kStore, Memory::kOut, kOut, 32,
        {{mem::kYSize, 1}, {mem::kPopPrev, 1}, {mem::kPushPrev, 1}});
  c.Add({{gemm::kPopNext, 1}}, Opcode::kFinish);
  return c;
}

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

// The meaning once more, as plainly as it can be said; returns what STORE writes.
std::vector<uint8_t> Reference(const Case& c) {
  const Config& k = c.config;
  const size_t lanes = k.lanes(), block = k.block();
  std::vector<int8_t> inp(k.inp_depth() * lanes, 0), wgt(16 * block * block);
  std::vector<uint32_t> acc(32 * lanes);
  for (size_t i = 0; i < wgt.size(); ++i) wgt[i] = LaneAt(&c.arena[kWgt], i, k.wgt_bits());
  for (size_t i = 0; i < 12 * lanes; ++i) {
    const size_t y = i / (6 * lanes), x = i % (6 * lanes);
    inp[((y + 1) * 8 + 1) * lanes + x] = LaneAt(&c.arena[kInp], i, k.inp_bits());
  }
  for (size_t i = 0; i < acc.size(); ++i) {
    for (size_t b = 0; b < 4; ++b) acc[i] |= uint32_t{c.arena[kAcc + i * 4 + b]} << 8 * b;
  }
  for (const Insn& n : Decode(c.stream.data(), c.stream.size(), k, true, nullptr)) {
    if (!n.is_nest()) continue;
    for (size_t o = 0; o < n.iter_out; ++o) {
      for (size_t i = 0; i < n.iter_in; ++i) {
        for (size_t u = n.uop_begin; u < n.uop_end; ++u) {
          const size_t d =
              (static_cast<size_t>(c.uops[u].dst) + o * n.dst_out + i * n.dst_in) * lanes;
          const size_t s =
              (static_cast<size_t>(c.uops[u].src) + o * n.src_out + i * n.src_in) * lanes;
          const size_t w =
              (static_cast<size_t>(c.uops[u].wgt) + o * n.wgt_out + i * n.wgt_in) * block * block;
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
      }
    }
  }
  std::vector<uint8_t> out;
  for (size_t i = 0; i < acc.size(); ++i) {
    if (k.inp_bits() == 8) {
      out.push_back(static_cast<uint8_t>(acc[i]));
    } else if (i % 2 == 0) {
      out.push_back(static_cast<uint8_t>(acc[i] % 16 + acc[i + 1] % 16 * 16));
    }
  }
  return out;
}

void TestKernelsAgree() {
  Random random(1);
  int ran = 0;
  for (uint32_t log_block = 2; log_block <= 7; ++log_block) {
    for (uint32_t log_batch : {0U, 1U}) {
      for (uint32_t n = 0; n < 24; ++n) {
        const bool narrow = n >= 12;  // int4 inp, wgt or both
        const Config config = MakeConfig(log_batch, log_block, narrow && n % 3 != 0 ? 2 : 3,
                                         narrow && n % 3 != 1 ? 2 : 3);
        const Case c = MakeCase(config, &random, 1 + static_cast<int>(n % 5));
        const std::vector<uint8_t> want = Reference(c);
        for (const char* kernels : {"plain", "avx2", "avx512bw", "avx512vnni"}) {
          if (ChooseKernels(kernels, config.block()) == nullptr) continue;
          FSim sim(config, c.stream.data(), c.stream.size(), {{0, config.arena_bytes}}, false,
                   nullptr, kernels);
          sim.Write(0, c.arena.data(), c.arena.size());
          for (int order = 0; order < 3; ++order) {
            sim.Run(order == 0 ? std::nullopt : std::optional<uint64_t>(order), {});
            CHECK(std::memcmp(sim.Read(kOut, want.size()), want.data(), want.size()) == 0);
          }
          ++ran;
        }
      }
    }
  }
  CHECK(ran >= 144);
}

// Runs `body`; it may throw an Error and nothing else.
template <typename Body>
bool Refused(Body body) {
  try {
    body();
  } catch (const Error& error) {
    CHECK(std::strchr(error.what(), ':') != nullptr);
    return true;
  }
  return false;
}

void TestDamagedStreams() {
  Random random(2);
  const Config config = MakeConfig(0, 4);
  int refused = 0;
  for (int n = 0; n < 1000; ++n) {
    Case c = MakeCase(config, &random, 3);
    for (uint32_t k = 1 + Below(&random, 3); k > 0; --k) {
      // Instructions, and sometimes micro-ops.
      if (Below(&random, 4) == 0) {
        c.arena[kUop + Below(&random, kUops * 4)] ^= static_cast<uint8_t>(1U << Below(&random, 8));
      } else {
        c.stream[Below(&random, static_cast<uint32_t>(c.stream.size()))] ^=
            static_cast<uint8_t>(1U << Below(&random, 8));
      }
    }
    const bool strict = Below(&random, 2) == 0;
    refused += Refused([&] {
      FSim sim(config, c.stream.data(), c.stream.size(), {{0, config.arena_bytes}}, strict,
               nullptr);
      sim.Write(0, c.arena.data(), c.arena.size());
      sim.Verify();
      uint64_t steps = 0;
      for (const Insn& insn : sim.stream().insns()) steps += insn.steps();
      if (steps < 100000) sim.Run(std::nullopt, {});
    });
  }
  CHECK(refused > 200 && refused < 1000);
}

void Append(std::string* text, uint64_t value, int bytes) {
  for (int b = 0; b < bytes; ++b) text->push_back(static_cast<char>(value >> (8 * b)));
}

std::string Join(const std::vector<std::pair<std::string, std::string>>& sections) {
  std::string table, body;
  const size_t start = 32 + 32 * sections.size();
  for (const auto& [tag, data] : sections) {
    body.append((64 - (start + body.size()) % 64) % 64, '\0');
    table += tag + std::string(8 - tag.size(), '\0');
    Append(&table, start + body.size(), 8);
    Append(&table, data.size(), 8);
    Append(&table, Crc32(reinterpret_cast<const uint8_t*>(data.data()), data.size()), 4);
    Append(&table, 0, 4);
    body += data;
  }
  std::string file = "VTAFLOW1";
  Append(&file, kProgramVersion, 4);
  Append(&file, sections.size(), 4);
  Append(&file, start + body.size(), 8);
  Append(&file, Crc32(reinterpret_cast<const uint8_t*>(table.data()), table.size()), 4);
  Append(&file, 0, 4);
  return file + table + body;
}

void TestPrograms() {
  CHECK(Crc32(reinterpret_cast<const uint8_t*>("123456789"), 9) == 0xcbf43926U);
  Random random(3);
  const Case c = MakeCase(MakeConfig(0, 4), &random, 2);
  std::string config, tensors;
  for (uint32_t word :
       {3U, 3U, 5U, 0U, 4U, 8U, 9U, 12U, 11U, 64U, 3U, 100000000U, 1U << 20, 0U, 16U, 0U}) {
    Append(&config, word, 4);
  }
  for (uint32_t word :
       {1U, 0U, static_cast<uint32_t>(kOut), 0U, 1U, 16U, 4U, 8U, 1U, 1U, 1U, 1U, 0U, 0U, 4U, 8U})
    Append(&tensors, word, 4);
  const std::string file = Join({{"CONFIG", config},
                                 {"INSNS", std::string(c.stream.begin(), c.stream.end())},
                                 {"CONSTS", std::string(c.arena.begin(), c.arena.begin() + kInp)},
                                 {"TENSORS", tensors},
                                 {"META", "{}"}});
  Program program;
  ParseProgram(file, &program);
  CHECK(program.outputs.size() == 1 && program.inputs.empty());
  CHECK(program.outputs[0].packed_bytes(program.config) == 512);
  // inp and acc are neither constants nor inputs.
  CHECK(Refused([&] { FSimEngine engine(program, nullptr, ""); }));
  CHECK(Refused([&] { DriverEngine engine(program, "/nowhere/libvta.so", {}); }));
  for (int n = 0; n < 400; ++n) {
    std::string damaged = file;
    damaged[Below(&random, static_cast<uint32_t>(file.size()))] ^=
        static_cast<char>(1 << Below(&random, 8));
    CHECK(Refused([&] {
      Program p;
      ParseProgram(damaged, &p);
    }));
    damaged = file.substr(0, Below(&random, static_cast<uint32_t>(file.size())));
    CHECK(Refused([&] {
      Program p;
      ParseProgram(damaged, &p);
    }));
  }
}

void TestTensors() {
  Random random(4);
  const Config config = MakeConfig(1, 3);
  TensorInfo t;
  t.n = 3;
  t.c = 5;
  t.h = 7;
  t.w = 4;
  t.form.extent[0] = t.h;
  t.form.extent[1] = t.w;
  CHECK(t.keeps_pixels());
  std::vector<int8_t> nchw(t.elems()), back(t.elems());
  for (int8_t& v : nchw) v = static_cast<int8_t>(random());
  std::vector<uint8_t> packed(t.packed_bytes(config));
  PackTensor(t, config, nchw.data(), packed.data(), "input");
  UnpackTensor(t, config, packed.data(), back.data());
  CHECK(nchw == back);
  const std::vector<uint8_t> plane = packed;
  packed.clear();
  for (int p = 0; p < 4; ++p) packed.insert(packed.end(), plane.begin(), plane.end());
  t.is_int32 = true;
  t.SetPlanes(0);
  CHECK(packed.size() == t.packed_bytes(config));
  std::vector<int32_t> wide(t.elems());
  UnpackTensor(t, config, packed.data(), wide.data());
  for (size_t i = 0; i < wide.size(); ++i) {
    CHECK(static_cast<uint32_t>(wide[i]) == static_cast<uint8_t>(nchw[i]) * 0x01010101U);
  }
}

// A border around each channel: packed by the host, left out when it is read.
void TestBorders() {
  Random random(5);
  for (const int bits : {8, 4}) {
    Config config = MakeConfig(1, 3);
    if (bits == 4) config.log_inp_width = 2;
    TensorInfo t;
    t.n = 3;
    t.c = 5;
    t.h = 7;
    t.w = 4;
    t.form.padding[0] = 2;
    t.form.padding[1] = 1;
    t.form.extent[0] = t.h + 3;
    t.form.extent[1] = t.w + 1;
    t.form.fill = -128;
    t.SetPlanes(bits == 4 ? 2 : 1);
    CHECK(t.keeps_pixels());
    std::vector<int8_t> nchw(t.elems()), back(t.elems());
    for (int8_t& v : nchw) v = static_cast<int8_t>(Below(&random, 248) - 128);
    std::vector<uint8_t> packed(t.packed_bytes(config), 99);
    PackTensor(t, config, nchw.data(), packed.data(), "input");
    UnpackTensor(t, config, packed.data(), back.data());
    CHECK(nchw == back);
    // As a larger tensor without a border, it has the same numbers inside and -128 around them.
    TensorInfo whole = t;
    whole.h = whole.form.extent[0];
    whole.w = whole.form.extent[1];
    whole.form.padding[0] = whole.form.padding[1] = 0;
    std::vector<int8_t> all(whole.elems());
    UnpackTensor(whole, config, packed.data(), all.data());
    for (size_t i = 0; i < all.size(); ++i) {
      const size_t x = i % whole.w, y = i / whole.w % whole.h, picture = i / (whole.w * whole.h);
      const bool inside = y >= 2 && y < 2 + t.h && x >= 1;
      CHECK(all[i] == (inside ? nchw[(picture * t.h + y - 2) * t.w + x - 1] : -128));
    }
    t.form.extent[1] = t.w;
    CHECK(!t.keeps_pixels());
    t.form.extent[1] = t.w + 1;
    t.SetPlanes(1);
    if (bits == 4) {
      std::fill(nchw.begin(), nchw.end(), int8_t{0});  // -128 alone takes two digits
      CHECK(Refused([&] { PackTensor(t, config, nchw.data(), packed.data(), "input"); }));
    }
  }
}

// Lanes of 4 bits: int8 as signed digits, int32 as plain bits.
void TestNarrowTensors() {
  Config config = MakeConfig(1, 3);
  config.log_inp_width = 2;
  TensorInfo t;
  t.c = 256;
  t.form.extent[0] = t.form.extent[1] = 1;
  t.SetPlanes(3);
  CheckTensor(t, config, "input");
  std::vector<int8_t> nchw(256), back(256);
  for (int i = 0; i < 256; ++i) nchw[static_cast<size_t>(i)] = static_cast<int8_t>(i);
  std::vector<uint8_t> packed(t.packed_bytes(config));
  CHECK(packed.size() == 3 * 256 * 2 / 2);  // the second row of the batch is zero
  PackTensor(t, config, nchw.data(), packed.data(), "input");
  // 0x21 = 2 * 16 + 1, -1 = 0 * 16 - 1, 0x78 = 7 * 16 + 8 = 1 * 256 - 8 * 16 - 8.
  const auto digit = [&](size_t p, size_t c) {
    const size_t lane = c / 8 * 16 + c % 8;
    return packed[p * 256 + lane / 2] >> lane % 2 * 4 & 15;
  };
  CHECK(digit(0, 0x21) == 1 && digit(1, 0x21) == 2 && digit(2, 0x21) == 0);
  CHECK(digit(0, 0xff) == 15 && digit(1, 0xff) == 0 && digit(2, 0xff) == 0);
  CHECK(digit(0, 0x78) == 8 && digit(1, 0x78) == 8 && digit(2, 0x78) == 1);
  UnpackTensor(t, config, packed.data(), back.data());
  CHECK(nchw == back);
  t.SetPlanes(2);
  CHECK(Refused([&] { PackTensor(t, config, nchw.data(), packed.data(), "input"); }));
  for (int8_t& v : nchw) v = std::min<int8_t>(v, 119);
  PackTensor(t, config, nchw.data(), packed.data(), "input");
  UnpackTensor(t, config, packed.data(), back.data());
  CHECK(nchw == back);
  t.SetPlanes(4);
  CHECK(Refused([&] { CheckTensor(t, config, "input"); }));
  t.is_int32 = true;
  CHECK(Refused([&] { CheckTensor(t, config, "input"); }));
  t.c = 1;
  t.SetPlanes(8);
  CheckTensor(t, config, "output");
  packed.assign(t.packed_bytes(config), 0);
  for (size_t p = 0; p < 8; ++p) {
    packed[p * t.plane_bytes(config)] = static_cast<uint8_t>(0xa0 | (8 + p));
  }
  int32_t wide = 0;
  UnpackTensor(t, config, packed.data(), &wide);
  CHECK(static_cast<uint32_t>(wide) == 0xfedcba98U);
}

// Forms, against their definition: reaching beyond the picture, or not to its end.
void TestForms() {
  Random random(5);
  const Config config = MakeConfig(1, 3);
  for (int n = 0; n < 200; ++n) {
    TensorInfo t;
    t.n = 1 + Below(&random, 3);
    t.c = 1 + Below(&random, 4);
    t.h = 1 + Below(&random, 7);
    t.w = 1 + Below(&random, 7);
    for (int axis : {0, 1}) {
      t.form.patch[axis] = 1 + Below(&random, 4);
      t.form.stride[axis] = 1 + Below(&random, 3);
      t.form.padding[axis] = Below(&random, 6);
      t.form.extent[axis] = 1 + Below(&random, 9);
    }
    CheckTensor(t, config, "input");
    std::vector<int8_t> nchw(t.elems());
    for (int8_t& v : nchw) v = static_cast<int8_t>(random());
    std::vector<uint8_t> packed(t.packed_bytes(config), 0xee);
    PackTensor(t, config, nchw.data(), packed.data(), "input");
    const InputForm& f = t.form;
    const uint32_t block = config.block(), batch = config.batch();
    const uint32_t channels = t.c * f.patch[0] * f.patch[1];
    const uint32_t blocks = (channels + block - 1) / block;
    for (size_t at = 0; at < packed.size(); ++at) {
      const uint32_t lane = at % block, row = at / block % batch;
      size_t element = at / block / batch;
      const int64_t x = static_cast<int64_t>(element % f.extent[1]);
      element /= f.extent[1];
      const int64_t y = static_cast<int64_t>(element % f.extent[0]);
      element /= f.extent[0];
      const uint32_t channel = static_cast<uint32_t>(element % blocks) * block + lane;
      const uint32_t image = static_cast<uint32_t>(element / blocks) * batch + row;
      const uint32_t c = channel % t.c, tap = channel / t.c;
      const int64_t py = y * f.stride[0] - f.padding[0] + tap / f.patch[1];
      const int64_t px = x * f.stride[1] - f.padding[1] + tap % f.patch[1];
      const bool inside =
          image < t.n && channel < channels && py >= 0 && py < t.h && px >= 0 && px < t.w;
      const int8_t expected =
          inside ? nchw[((uint64_t{image} * t.c + c) * t.h + static_cast<uint64_t>(py)) * t.w +
                        static_cast<uint64_t>(px)]
                 : int8_t{0};
      CHECK(packed[at] == static_cast<uint8_t>(expected));
    }
  }
}

void TestText() {
  CHECK(Printable("größe 大 🙂 [b]$") == "größe 大 🙂 [b]$");
  CHECK(Printable("\x1b[31ma\n\t\r") == "\\x1b[31ma\\n\\t\\r");
  CHECK(Printable("\xc2\x9b"
                  "2J") == "\\x9b2J");
  CHECK(Printable("a\u202e\u2028") == "a\\u202e\\u2028");
  CHECK(Printable(std::string("\0", 1)) == "\\x00");
  // No UTF-8: a lead byte alone, one cut short, a long form, half a pair, beyond Unicode.
  CHECK(Printable("\xff") == "\\xff" && Printable("\xe5\xa4") == "\\xe5\\xa4");
  CHECK(Printable("\xc0\x80") == "\\xc0\\x80" && Printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(Printable("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
  CHECK(Shortened(std::string(kNameChars, 'a')) == std::string(kNameChars, 'a'));
  const std::string cut = Shortened(std::string(5000, 'a') + std::string(5000, 'b'));
  CHECK(cut == std::string(53, 'a') + "…" + std::string(26, 'b'));
  std::string wide;
  for (int n = 0; n < 100; ++n) wide += "大";
  CHECK(Shortened(wide).size() == 3 * kNameChars);
}

}  // namespace
}  // namespace vta

int main() {
  vta::TestKernelsAgree();
  vta::TestDamagedStreams();
  vta::TestPrograms();
  vta::TestTensors();
  vta::TestBorders();
  vta::TestNarrowTensors();
  vta::TestForms();
  vta::TestText();
  std::printf(vta::failures == 0 ? "core: ok\n" : "core: %d failures\n", vta::failures);
  return vta::failures == 0 ? 0 : 1;
}
