// Random programs for the tests of the core.
#ifndef TESTS_FLOW_SIM_CORE_CASE_H_
#define TESTS_FLOW_SIM_CORE_CASE_H_

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <utility>
#include <vector>

#include "config.h"
#include "decode.h"

namespace vta {

extern int failures;

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      std::printf("%s:%d: must hold: %s\n", __FILE__, __LINE__, #condition); \
      ++failures;                                                            \
    }                                                                        \
  } while (false)

using Random = std::mt19937;

inline uint32_t Below(Random* random, uint32_t limit) { return (*random)() % limit; }

inline Config MakeConfig(uint32_t log_batch, uint32_t log_block, uint32_t log_inp = 3,
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
inline void Encode(const FieldSpec (&fields)[kCount], const Config& config, int word_bits,
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
inline Case MakeCase(const Config& config, Random* random, int nests) {
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

// Every kernel against a plain interpreter, on this many programs of sums; kernels_test.cc.
void TestKernels(uint32_t programs);

}  // namespace vta

#endif  // TESTS_FLOW_SIM_CORE_CASE_H_
