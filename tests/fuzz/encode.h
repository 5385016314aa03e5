// Where the fields of instructions and micro-ops lie, for tests that write them.
#ifndef TESTS_FUZZ_ENCODE_H_
#define TESTS_FUZZ_ENCODE_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "config.h"

namespace vta {

struct FieldPlace {
  int lsb;
  int bits;
};

// Places the fields of a format LSB first, as decode.cc does, without its checks.
template <int kCount>
std::vector<FieldPlace> Places(const FieldSpec (&fields)[kCount], const Config& config) {
  std::vector<FieldPlace> places;
  int at = 0;
  for (const FieldSpec& field : fields) {
    uint32_t depth = 0;
    if (field.depths & kLogUopDepth) depth = std::max(depth, config.log_uop_depth());
    if (field.depths & kLogInpDepth) depth = std::max(depth, config.log_inp_depth());
    if (field.depths & kLogWgtDepth) depth = std::max(depth, config.log_wgt_depth());
    if (field.depths & kLogAccDepth) depth = std::max(depth, config.log_acc_depth());
    const int bits = static_cast<int>(field.plus + depth);
    if (field.second_word) at = 64;
    places.push_back({at, bits});
    at += bits;
  }
  return places;
}

// The places of an opcode's format; empty when there is no such opcode.
inline std::vector<FieldPlace> PlacesOf(uint32_t opcode, const Config& config) {
  if (opcode == static_cast<uint32_t>(Opcode::kAlu)) return Places(alu::kFields, config);
  if (opcode == static_cast<uint32_t>(Opcode::kGemm) ||
      opcode == static_cast<uint32_t>(Opcode::kFinish)) {
    return Places(gemm::kFields, config);
  }
  if (opcode < 2) return Places(mem::kFields, config);
  return {};
}

inline std::vector<FieldPlace> UopPlaces(const Config& config) {
  return Places(uop::kFields, config);
}

inline uint64_t GetField(const FieldPlace& place, const uint8_t* bytes) {
  uint64_t value = 0;
  for (int b = 0; b < place.bits; ++b) {
    const int at = place.lsb + b;
    if (at < 128) value |= (uint64_t{bytes[at / 8]} >> at % 8 & 1) << b;
  }
  return value;
}

inline void PutField(const FieldPlace& place, uint64_t value, uint8_t* bytes) {
  for (int b = 0; b < place.bits; ++b) {
    const int at = place.lsb + b;
    if (at >= 128) return;
    const uint8_t bit = static_cast<uint8_t>(1U << at % 8);
    bytes[at / 8] = static_cast<uint8_t>((bytes[at / 8] & ~bit) | (value >> b & 1 ? bit : 0));
  }
}

}  // namespace vta

#endif  // TESTS_FUZZ_ENCODE_H_
