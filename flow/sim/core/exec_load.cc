// LOAD: y_size rows of x_size elements from DRAM into a scratchpad, zeros around them.
#include <algorithm>
#include <cstring>

#include "machine.h"

namespace vta {
namespace {

// Walks the scratchpad rows of a LOAD: zero(at, elements) for padding, copy(at, row) for the x_size
// elements of a row.
template <typename Zero, typename Copy>
void Walk(const Insn& insn, Zero zero, Copy copy) {
  const size_t columns = insn.columns();
  size_t at = insn.sram_base;
  if (insn.y_pad_0 != 0) zero(at, insn.y_pad_0 * columns);
  at += insn.y_pad_0 * columns;
  for (size_t row = 0; row < insn.y_size; ++row, at += columns) {
    if (insn.x_pad_0 != 0) zero(at, insn.x_pad_0);
    copy(at + insn.x_pad_0, row);
    if (insn.x_pad_1 != 0) zero(at + insn.x_pad_0 + insn.x_size, insn.x_pad_1);
  }
  if (insn.y_pad_1 != 0) zero(at, insn.y_pad_1 * columns);
}

int32_t LoadLe32(const uint8_t* p) {
  return static_cast<int32_t>(uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 |
                              uint32_t{p[3]} << 24);
}

}  // namespace

void Machine::PackInp(const uint8_t* from, size_t at, size_t elements) {
  uint8_t* to = inp_bytes_.data() + at * inp_packed_;
  size_t lanes = elements * config_.lanes();
  if (config_.inp_bits() == 8) return kernels_.pack_inp(from, to, lanes);
  for (size_t part; lanes != 0; lanes -= part) {
    part = std::min(lanes, kUnpack);
    kernels_.unpack4(from, unpacked_.data(), part);
    kernels_.pack_inp(unpacked_.data(), to, part);
    from += part / 2;
    to += part * kernels_.inp_lane_bytes;
  }
}

void Machine::Load(const Insn& insn, const uint8_t* dram) {
  if (insn.is_nop() || insn.memory == Memory::kUop) return;
  const size_t lanes = config_.lanes();
  const size_t elem_bytes = config_.dram_bytes(insn.memory);
  const size_t stride = insn.x_stride * elem_bytes;
  switch (insn.memory) {
    case Memory::kInp: {
      uint8_t* inp = inp_bytes_.data();
      Walk(
          insn,
          [&](size_t at, size_t n) {
            std::memset(inp + at * inp_packed_, kernels_.inp_zero, n * inp_packed_);
          },
          [&](size_t at, size_t row) { PackInp(dram + row * stride, at, insn.x_size); });
      return;
    }
    case Memory::kWgt: {
      Walk(
          insn, [&](size_t at, size_t n) { weights_.Clear(at, n); },
          [&](size_t at, size_t row) {
            weights_.Load(at, dram + row * stride, insn.dram_base + uint64_t{row} * insn.x_stride,
                          insn.x_size);
          });
      return;
    }
    case Memory::kAcc:
    case Memory::kAcc8bit: {
      const bool narrow = insn.memory == Memory::kAcc8bit;
      Walk(
          insn, [&](size_t at, size_t n) { std::memset(acc_ + at * lanes, 0, n * lanes * 4); },
          [&](size_t at, size_t row) {
            const uint8_t* from = dram + row * stride;
            int32_t* to = acc_ + at * lanes;
            for (size_t i = 0; i < insn.x_size * lanes; ++i) {
              to[i] = narrow ? static_cast<int8_t>(from[i]) : LoadLe32(from + i * 4);
            }
          });
      return;
    }
    case Memory::kUop:
    case Memory::kOut:
      return;
  }
}

}  // namespace vta
