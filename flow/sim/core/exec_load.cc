// LOAD: y_size rows of x_size elements from DRAM into a scratchpad, zeros around them.
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
          [&](size_t at, size_t row) {
            kernels_.pack_inp(dram + row * stride, inp + at * inp_packed_, insn.x_size * lanes);
          });
      return;
    }
    case Memory::kWgt: {
      uint8_t* wgt = wgt_bytes_.data();
      Walk(
          insn,
          [&](size_t at, size_t n) { std::memset(wgt + at * wgt_packed_, 0, n * wgt_packed_); },
          [&](size_t at, size_t row) {
            const uint8_t* from = dram + row * stride;
            for (size_t x = 0; x < insn.x_size; ++x) {
              kernels_.pack_wgt(from + x * elem_bytes, wgt + (at + x) * wgt_packed_,
                                config_.block());
            }
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
