// A program file: what flow/program/program.py writes and docs/program.md describes.
#ifndef FLOW_SIM_CORE_PROGRAM_H_
#define FLOW_SIM_CORE_PROGRAM_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "config.h"

namespace vta {

// Of programs without fills and borders, and with them.
inline constexpr uint32_t kPlainVersion = 3, kProgramVersion = 4;
// META is text for people; its values take many times its bytes once they are read.
inline constexpr size_t kMaxMetaBytes = size_t{1} << 24;
// Brackets inside each other; ours have five.
inline constexpr size_t kMaxMetaDepth = 32;
// Elements of a tensor, and of a picture with the zeros that positions of its form reach.
inline constexpr uint64_t kMaxTensorElems = (uint64_t{1} << 31) - 1;

// The zlib CRC-32.
uint32_t Crc32(const uint8_t* bytes, size_t size);

// How an input's pixels lie as channels, each pair (vertical, horizontal): channel
// (dy * patch[1] + dx) * C + c of position (y, x) holds channel c of the pixel
// (y * stride[0] - padding[0] + dy, x * stride[1] - padding[1] + dx), `fill` outside the picture.
struct InputForm {
  uint32_t patch[2] = {1, 1}, stride[2] = {1, 1}, padding[2] = {0, 0}, extent[2] = {1, 1};
  int8_t fill = 0;
};

// An input, output or layer tensor in the arena.
struct TensorInfo {
  bool is_output = false;
  bool is_int32 = false;  // else int8
  // Lanes of inp that a number takes, each a plane of its own, low first: of int8 signed digits, of
  // int32 plain bits. 0 stands for the planes of 8-bit lanes; `SetPlanes` resolves it.
  uint32_t planes = 1;
  uint64_t address = 0;  // bytes from the arena's start
  uint32_t n = 1, c = 1, h = 1, w = 1;
  InputForm form;  // of outputs: patches of one pixel, as many as there are and a border

  // The least and the largest number that signed digits of `bits` bits in its planes hold.
  std::pair<int64_t, int64_t> digit_range(uint32_t bits) const;
  // Whether each pixel lies at a position of its own, with or without a border.
  bool keeps_pixels() const;
  uint64_t elems() const { return uint64_t{n} * c * h * w; }
  void SetPlanes(uint32_t count) { planes = count != 0 ? count : is_int32 ? 4 : 1; }
  // Bytes of one plane, and of all.
  uint64_t plane_bytes(const Config& config) const;
  uint64_t packed_bytes(const Config& config) const { return plane_bytes(config) * planes; }
};

struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

// Bytes of the arena that all are `byte` before the program first runs.
struct Fill {
  uint64_t address = 0, size = 0;
  uint8_t byte = 0;
};

// The parsed file; the sections point into `file`.
struct Program {
  std::string file;
  Config config;
  uint64_t consts_at = 0;
  Bytes insns, consts, meta;
  std::vector<TensorInfo> inputs, outputs;
  std::vector<Fill> fills;

  Program() = default;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
};

// Parses `file` into `program`. Throws ArtifactError on any damage, ConfigError on an impossible
// machine.
void ParseProgram(std::string file, Program* program);

// Checks that a tensor is not empty, not absurd, has the planes of its numbers and lies in the
// arena. Throws ArtifactError naming `where`.
void CheckTensor(const TensorInfo& tensor, const Config& config, const std::string& where);

// Calls write(address, bytes, size) for what the arena holds before the program first runs: fills,
// then constants.
template <typename Write>
void WriteInitial(const Program& program, Write write) {
  std::vector<uint8_t> filled;
  for (const Fill& fill : program.fills) {
    filled.assign(fill.size, fill.byte);
    write(fill.address, filled.data(), filled.size());
  }
  write(program.consts_at, program.consts.data, program.consts.size);
}

// Packs int8[N, C, H, W], arranged in its form, into the planes of NCHWnc lanes (missing lanes
// zero). Throws CapacityError, naming `where`, when a number does not fit the planes.
void PackTensor(const TensorInfo& tensor, const Config& config, const int8_t* nchw, uint8_t* packed,
                const std::string& where);
// Unpacks a tensor that keeps its pixels into int8[N, C, H, W] or int32[N, C, H, W].
void UnpackTensor(const TensorInfo& tensor, const Config& config, const uint8_t* packed,
                  void* nchw);

}  // namespace vta

#endif  // FLOW_SIM_CORE_PROGRAM_H_
