// The loops that the compiler vectorises by itself. Each kernels_*.cc includes this with its own
// flags; everything is in an unnamed namespace and no standard header with code is included, so
// that no function built for a newer processor is shared with the rest of the library.
#ifndef FLOW_SIM_CORE_KERNELS_COMMON_H_
#define FLOW_SIM_CORE_KERNELS_COMMON_H_

#include "kernels.h"

namespace vta {
namespace {

inline int32_t Wrap(uint32_t value) { return static_cast<int32_t>(value); }

// floor(a / 2^n) modulo 2^32; shifts left where n is negative.
inline int32_t Shift(int32_t a, int32_t n) {
  if (n >= 0) return a >> (n > 31 ? 31 : n);
  return n <= -32 ? 0 : Wrap(static_cast<uint32_t>(a) << -n);
}

// One ALU operation over the runs; `f` is applied lane by lane, in order, so overlapping runs
// behave as on the machine.
template <typename F>
inline void AluImmLoop(const AluArgs& args, F f) {
  for (size_t r = 0; r < args.run_count; ++r) {
    int32_t* dst =
        args.acc + static_cast<ptrdiff_t>(args.runs[r].dst) * static_cast<ptrdiff_t>(args.lanes);
    const size_t n = static_cast<size_t>(args.runs[r].count) * args.lanes;
    for (size_t i = 0; i < n; ++i) dst[i] = f(dst[i]);
  }
}

template <typename F>
inline void AluSrcLoop(const AluArgs& args, F f) {
  for (size_t r = 0; r < args.run_count; ++r) {
    const ptrdiff_t lanes = static_cast<ptrdiff_t>(args.lanes);
    int32_t* dst = args.acc + args.runs[r].dst * lanes;
    const int32_t* src = args.src + args.runs[r].src * lanes;
    const size_t n = static_cast<size_t>(args.runs[r].count) * args.lanes;
    for (size_t i = 0; i < n; ++i) dst[i] = f(dst[i], src[i]);
  }
}

inline void Alu(const AluArgs& args) {
  const int32_t imm = args.imm;
  switch (args.op) {
    case AluOp::kMin:
      if (args.use_imm) return AluImmLoop(args, [=](int32_t a) { return a < imm ? a : imm; });
      return AluSrcLoop(args, [](int32_t a, int32_t b) { return a < b ? a : b; });
    case AluOp::kMax:
      if (args.use_imm) return AluImmLoop(args, [=](int32_t a) { return a > imm ? a : imm; });
      return AluSrcLoop(args, [](int32_t a, int32_t b) { return a > b ? a : b; });
    case AluOp::kAdd:
      if (args.use_imm) {
        return AluImmLoop(args, [=](int32_t a) {
          return Wrap(static_cast<uint32_t>(a) + static_cast<uint32_t>(imm));
        });
      }
      return AluSrcLoop(args, [](int32_t a, int32_t b) {
        return Wrap(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
      });
    case AluOp::kShr:
      if (args.use_imm && imm >= 0) {
        const int n = imm > 31 ? 31 : imm;
        return AluImmLoop(args, [=](int32_t a) { return a >> n; });
      }
      if (args.use_imm) return AluImmLoop(args, [=](int32_t a) { return Shift(a, imm); });
      return AluSrcLoop(args, [](int32_t a, int32_t b) { return Shift(a, b); });
    case AluOp::kMul:
      if (args.use_imm) {
        return AluImmLoop(args, [=](int32_t a) {
          return Wrap(static_cast<uint32_t>(a) * static_cast<uint32_t>(imm));
        });
      }
      return AluSrcLoop(args, [](int32_t a, int32_t b) {
        return Wrap(static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
      });
  }
}

inline void Narrow(const int32_t* from, uint8_t* to, size_t lanes) {
  for (size_t i = 0; i < lanes; ++i) to[i] = static_cast<uint8_t>(from[i]);
}

// Bits i*4 .. i*4+3 of `to` = the low 4 bits of from[i].
inline void Narrow4(const int32_t* from, uint8_t* to, size_t lanes) {
  for (size_t i = 0; i < lanes / 2; ++i) {
    to[i] = static_cast<uint8_t>((from[2 * i] & 15) | (from[2 * i + 1] & 15) << 4);
  }
}

// to[i] = the sign-extended bits i*4 .. i*4+3 of `from`.
inline void Unpack4(const uint8_t* from, uint8_t* to, size_t lanes) {
  for (size_t i = 0; i < lanes / 2; ++i) {
    to[2 * i] = static_cast<uint8_t>(((from[i] & 15) ^ 8) - 8);
    to[2 * i + 1] = static_cast<uint8_t>(((from[i] >> 4) ^ 8) - 8);
  }
}

inline int32_t SignExtend(uint8_t byte) { return static_cast<int8_t>(byte); }

inline void CopyInp(const uint8_t* from, uint8_t* to, size_t lanes) {
  __builtin_memcpy(to, from, lanes);
}

// Packs inp lanes as little-endian int16.
inline void WidenInp(const uint8_t* from, uint8_t* to, size_t lanes) {
  int16_t* wide = reinterpret_cast<int16_t*>(to);
  for (size_t i = 0; i < lanes; ++i) wide[i] = static_cast<int16_t>(SignExtend(from[i]));
}

}  // namespace
}  // namespace vta

#endif  // FLOW_SIM_CORE_KERNELS_COMMON_H_
