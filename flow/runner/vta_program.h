// A program file (.vta): read, checked, and its tensors packed as they lie in the memory of the
// device. docs/program.md describes the file. Only for vta_run.cc.
#ifndef FLOW_RUNNER_VTA_PROGRAM_H_
#define FLOW_RUNNER_VTA_PROGRAM_H_

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace vta_run {

// ---- errors ------------------------------------------------------------------------------------
// What the user reads: "where: what must hold, got what".
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void Fail(const std::string& where, const std::string& must,
                              const std::string& got = "") {
  throw Error(where + ": " + must + (got.empty() ? "" : ", got " + got));
}

inline void Require(bool holds, const std::string& where, const std::string& must, uint64_t got) {
  if (!holds) Fail(where, must, std::to_string(got));
}

// ---- files -------------------------------------------------------------------------------------
constexpr uint64_t kMostFileBytes = uint64_t{1} << 30;

inline std::vector<uint8_t> ReadFile(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) Fail(path, "must be a readable file", std::strerror(errno));
  std::vector<uint8_t> bytes;
  uint8_t part[1 << 16];
  size_t got = 0;
  while ((got = std::fread(part, 1, sizeof part, file)) != 0 && bytes.size() <= kMostFileBytes) {
    bytes.insert(bytes.end(), part, part + got);
  }
  const bool failed = std::ferror(file) != 0;
  const int reason = errno;
  std::fclose(file);
  if (failed) Fail(path, "must be a readable file", std::strerror(reason));
  Require(bytes.size() <= kMostFileBytes, path, "must have at most 2^30 bytes", bytes.size());
  return bytes;
}

inline void WriteFile(const std::string& path, const void* bytes, size_t size) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  bool written = file != nullptr && std::fwrite(bytes, 1, size, file) == size;
  int reason = errno;
  if (file != nullptr && std::fclose(file) != 0) {
    written = false;
    reason = errno;
  }
  if (!written) Fail(path, "must be writable", std::strerror(reason));
}

// ---- the program file --------------------------------------------------------------------------
inline uint32_t U32(const uint8_t* p) {
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

inline uint64_t U64(const uint8_t* p) { return U32(p) | uint64_t{U32(p + 4)} << 32; }

inline uint32_t Crc32(const uint8_t* bytes, uint64_t size) {
  static uint32_t table[256];
  if (table[1] == 0) {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ 0xedb88320U : value >> 1;
      table[i] = value;
    }
  }
  uint32_t crc = ~uint32_t{0};
  for (uint64_t i = 0; i < size; ++i) crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
  return ~crc;
}

struct Bytes {
  const uint8_t* data = nullptr;
  uint64_t size = 0;
};

// Types of memory, as LOAD and STORE name them.
enum Memory : uint32_t { kUop, kWgt, kInp, kAcc, kOut, kAcc8bit, kMemories };

struct Machine {
  uint32_t inp_bits = 8, wgt_bits = 8;
  uint64_t batch = 1, block = 16;
  uint64_t arena_bytes = 0, constants_at = 0;

  uint64_t lanes() const { return batch * block; }
  // Bytes of an element in DRAM, which addresses of instructions count.
  uint64_t elem_bytes(uint32_t memory) const {
    const uint64_t bytes[kMemories] = {
        4, block * block * wgt_bits / 8, inp_bytes(), lanes() * 4, inp_bytes(), lanes()};
    return bytes[memory];
  }
  uint64_t inp_bytes() const { return lanes() * inp_bits / 8; }
  // What the arena's physical address is a multiple of.
  uint64_t alignment() const {
    return std::max<uint64_t>({4096, elem_bytes(kWgt), elem_bytes(kAcc)});
  }
};

// An input or output in the arena; pairs are vertical and horizontal.
struct Tensor {
  bool is_output = false, is_int32 = false;
  uint64_t address = 0, planes = 1, n = 1, c = 1, h = 1, w = 1;
  uint64_t patch[2], stride[2], padding[2], extent[2];
  int fill = 0;

  uint64_t elems() const { return n * c * h * w; }
  uint64_t plane_bytes(const Machine& machine) const {
    const uint64_t channels = c * patch[0] * patch[1];
    return (n + machine.batch - 1) / machine.batch *
           ((channels + machine.block - 1) / machine.block) * extent[0] * extent[1] *
           machine.inp_bytes();
  }
  uint64_t packed_bytes(const Machine& machine) const { return plane_bytes(machine) * planes; }
  std::string text() const {
    return std::string(is_int32 ? "int32[" : "int8[") + std::to_string(n) + ", " +
           std::to_string(c) + ", " + std::to_string(h) + ", " + std::to_string(w) + "]";
  }
};

struct Fill {
  uint64_t address, size;
  uint8_t byte;
};

struct Program {
  std::vector<uint8_t> file;
  Machine machine;
  Bytes insns, constants;
  std::vector<Tensor> inputs, outputs;
  std::vector<Fill> fills;
};

inline std::map<std::string, Bytes> ReadSections(const std::vector<uint8_t>& file,
                                                 const std::string& where) {
  const uint8_t* data = file.data();
  const uint64_t size = file.size();
  Require(size >= 32, where, "must have a header of 32 bytes", size);
  if (std::memcmp(data, "VTAFLOW1", 8) != 0) Fail(where, "must start with VTAFLOW1");
  const uint32_t version = U32(data + 8), count = U32(data + 12);
  Require(version == 3 || version == 4, where, "must be version 3 or 4", version);
  Require(U64(data + 16) == size, where, "must have " + std::to_string(U64(data + 16)) + " bytes",
          size);
  Require(count <= 64 && 32 + uint64_t{count} * 32 <= size, where, "must hold its section table",
          count);
  Require(U32(data + 28) == 0, where, "must have 0 in reserved fields", U32(data + 28));
  if (Crc32(data + 32, count * 32) != U32(data + 24)) {
    Fail(where, "must have an undamaged section table", "another checksum");
  }
  std::map<std::string, Bytes> sections;
  uint64_t end = 32 + uint64_t{count} * 32;
  for (uint32_t i = 0; i < count; ++i) {
    const uint8_t* row = data + 32 + i * 32;
    std::string tag(reinterpret_cast<const char*>(row), 8);
    tag.resize(std::min(tag.find('\0'), tag.size()));
    const uint64_t offset = U64(row + 8), bytes = U64(row + 16);
    Require(offset % 64 == 0 && offset >= end && offset <= size && bytes <= size - offset, where,
            "must hold its section " + std::to_string(i), offset);
    end = offset + bytes;
    if (Crc32(data + offset, bytes) != U32(row + 24)) {
      Fail(where, "must have an undamaged section " + std::to_string(i), "another checksum");
    }
    if (!sections.emplace(tag, Bytes{data + offset, bytes}).second) {
      Fail(where, "must have each section once", "section " + std::to_string(i) + " again");
    }
  }
  for (const char* tag : {"CONFIG", "INSNS", "CONSTS", "TENSORS"}) {
    if (sections.count(tag) == 0) Fail(where, std::string("must have a section ") + tag, "none");
  }
  return sections;
}

inline Machine ReadMachine(Bytes config, const std::string& where) {
  struct Word {
    const char* name;
    uint32_t low, high;
  };
  // The words that running needs, with their places; vta_config/config_words.py has all of them.
  constexpr Word kWords[] = {{"log_inp_width", 2, 3},
                             {"log_wgt_width", 2, 3},
                             {"log_acc_width", 5, 5},
                             {"log_batch", 0, 4},
                             {"log_block", 2, 7}};
  Require(config.size == 64, where, "must have a CONFIG of 64 bytes", config.size);
  uint32_t words[5];
  for (int i = 0; i < 5; ++i) {
    words[i] = U32(config.data + 4 * i);
    Require(words[i] >= kWords[i].low && words[i] <= kWords[i].high, where,
            std::string("must have a ") + kWords[i].name + " in [" + std::to_string(kWords[i].low) +
                ", " + std::to_string(kWords[i].high) + "]",
            words[i]);
  }
  Machine machine;
  machine.inp_bits = uint32_t{1} << words[0];
  machine.wgt_bits = uint32_t{1} << words[1];
  machine.batch = uint64_t{1} << words[3];
  machine.block = uint64_t{1} << words[4];
  machine.arena_bytes = U32(config.data + 4 * 12);
  machine.constants_at = U32(config.data + 4 * 13);
  return machine;
}

inline Tensor ReadTensor(const uint8_t* row, const Machine& machine, const std::string& where) {
  constexpr uint64_t kMostElems = (uint64_t{1} << 31) - 1;
  Tensor t;
  const uint32_t role = U32(row), kind = U32(row + 4);
  Require(role <= 1 && (kind & 0xff) <= role && kind >> 24 == 0, where,
          "must have int8 inputs of role 0, then outputs of role 1", kind);
  t.is_output = role == 1;
  t.is_int32 = (kind & 0xff) == 1;
  t.planes = kind >> 8 & 0xff;
  if (t.planes == 0) t.planes = t.is_int32 ? 4 : 1;
  t.fill = static_cast<int8_t>(kind >> 16 & 0xff);
  t.address = U64(row + 8);
  uint64_t* const sizes[] = {&t.n, &t.c, &t.h, &t.w};
  for (int i = 0; i < 4; ++i) *sizes[i] = U32(row + 16 + 4 * i);
  uint64_t* const pairs[] = {t.patch, t.stride, t.padding, t.extent};
  for (int i = 0; i < 8; ++i) pairs[i / 2][i % 2] = U32(row + 32 + 4 * i);
  // Products of 32-bit numbers in double: exact enough to tell what is absurd, and no overflow.
  const double images = double(t.n) * double(t.c);
  double packed = images, reached = images;
  bool sane = images * double(t.h) * double(t.w) > 0 &&
              images * double(t.h) * double(t.w) <= double(kMostElems);
  for (int a : {0, 1}) {
    const double span = (double(t.extent[a]) - 1) * double(t.stride[a]) + double(t.patch[a]);
    packed *= double(t.patch[a]) * double(t.extent[a]);
    reached *= span;
    sane = sane && t.stride[a] != 0 && span < 1e9 && t.padding[a] < 1000000000;
  }
  sane = sane && packed > 0 && packed <= double(kMostElems) && reached <= double(kMostElems);
  if (!sane) Fail(where, "must have tensors of at least one element that fit the arena", t.text());
  const uint64_t least = t.is_int32 ? 32 / machine.inp_bits : 1;
  const uint64_t most = t.is_int32 ? least : machine.inp_bits == 8 ? 1 : 3;
  Require(t.planes >= least && t.planes <= most, where, "must have the planes of its numbers",
          t.planes);
  const uint64_t bytes = t.packed_bytes(machine);
  Require(bytes <= machine.arena_bytes && t.address <= machine.arena_bytes - bytes, where,
          "must have tensors inside the arena", t.address);
  const bool plain = t.patch[0] == 1 && t.patch[1] == 1 && t.stride[0] == 1 && t.stride[1] == 1 &&
                     t.padding[0] + t.h <= t.extent[0] && t.padding[1] + t.w <= t.extent[1];
  if (t.is_output && !plain) Fail(where, "must have plain outputs", "another form");
  return t;
}

inline uint64_t Bits(uint64_t word, int lsb, int bits) {
  return word >> lsb & ((uint64_t{1} << bits) - 1);
}

// LOAD and STORE: what of them concerns DRAM (vta_config/isa.py has all fields).
struct Transfer {
  explicit Transfer(const uint8_t* insn) {
    const uint64_t low = U64(insn), high = U64(insn + 8);
    opcode = static_cast<uint32_t>(Bits(low, 0, 3));
    memory = static_cast<uint32_t>(Bits(low, 7, 3));
    dram_base = Bits(low, kDramLsb, 32);
    rows = Bits(high, 0, 16);
    columns = Bits(high, 16, 16);
    stride = Bits(high, 32, 16);
  }
  static constexpr int kDramLsb = 26;
  bool moves() const { return opcode <= 1 && columns != 0 && rows != 0; }
  // Elements from `dram_base` to the end of the last row.
  uint64_t span() const { return (rows - 1) * stride + columns; }
  uint32_t opcode, memory;
  uint64_t dram_base, rows, columns, stride;
};

constexpr uint32_t kFinish = 3, kLastOpcode = 4;

inline void CheckInsns(const Program& program, const std::string& where) {
  const Machine& machine = program.machine;
  const uint64_t count = program.insns.size / 16;
  Require(program.insns.size % 16 == 0 && count != 0, where, "must have whole instructions",
          program.insns.size);
  Require(count <= UINT32_MAX / 16, where, "must have fewer than 2^28 instructions", count);
  for (uint64_t i = 0; i < count; ++i) {
    const Transfer insn(program.insns.data + 16 * i);
    const std::string name = where + " instruction " + std::to_string(i);
    Require(insn.opcode <= kLastOpcode, name, "must have an opcode in [0, 4]", insn.opcode);
    Require((insn.opcode == kFinish) == (i == count - 1), name,
            "must be FINISH as the last one, and only there", insn.opcode);
    if (!insn.moves()) continue;
    const bool is_store = insn.opcode == 1;
    Require(insn.memory < kMemories && (insn.memory == kOut) == is_store, name,
            "must load uop, wgt, inp or acc, or store out", insn.memory);
    const uint64_t elem = machine.elem_bytes(insn.memory);
    Require((insn.dram_base + insn.span()) * elem <= machine.arena_bytes, name,
            "must stay inside the arena of " + std::to_string(machine.arena_bytes) + " bytes",
            insn.dram_base * elem);
  }
}

inline Program ReadProgram(const std::string& path) {
  Program program;
  program.file = ReadFile(path);
  std::map<std::string, Bytes> sections = ReadSections(program.file, path);
  program.machine = ReadMachine(sections["CONFIG"], path);
  program.insns = sections["INSNS"];
  program.constants = sections["CONSTS"];
  const Machine& machine = program.machine;
  Require(machine.constants_at + program.constants.size <= machine.arena_bytes, path,
          "must have constants inside the arena", program.constants.size);
  const Bytes tensors = sections["TENSORS"];
  Require(tensors.size % 64 == 0, path, "must have whole records of tensors", tensors.size);
  for (uint64_t at = 0; at < tensors.size; at += 64) {
    const Tensor t = ReadTensor(tensors.data + at, machine, path);
    (t.is_output ? program.outputs : program.inputs).push_back(t);
  }
  const Bytes fills = sections["FILLS"];
  Require(fills.size % 12 == 0, path, "must have whole records of fills", fills.size);
  for (uint64_t at = 0, end = 0; at < fills.size; at += 12) {
    const uint64_t address = U32(fills.data + at), size = U32(fills.data + at + 4);
    const uint32_t byte = U32(fills.data + at + 8);
    Require(address >= end && address + size <= machine.arena_bytes && byte <= 0xff, path,
            "must have fills one behind the other, inside the arena", address);
    end = address + size;
    program.fills.push_back({address, size, static_cast<uint8_t>(byte)});
  }
  CheckInsns(program, path);
  return program;
}

// ---- tensors as they lie in DRAM ---------------------------------------------------------------
// Calls put(lane, number) for each number of a plane of int8[N, C, H, W] in its form: channel
// (dy * patch[1] + dx) * C + c of position (y, x) is channel c of the pixel
// (y * stride[0] - padding[0] + dy, x * stride[1] - padding[1] + dx), or the fill outside.
template <typename Put>
inline void Place(const Tensor& t, const Machine& machine, const int8_t* nchw, Put put) {
  const uint64_t taps = t.patch[0] * t.patch[1];
  const uint64_t blocks = (t.c * taps + machine.block - 1) / machine.block;
  for (uint64_t n = 0; n < t.n; ++n) {
    for (uint64_t channel = 0; channel < t.c * taps; ++channel) {
      const uint64_t c = channel % t.c, tap = channel / t.c;
      const uint64_t dy = tap / t.patch[1], dx = tap % t.patch[1];
      const int8_t* image = nchw + (n * t.c + c) * t.h * t.w;
      const uint64_t first = (n / machine.batch * blocks + channel / machine.block) * t.extent[0];
      const uint64_t lane = n % machine.batch * machine.block + channel % machine.block;
      for (uint64_t y = 0; y < t.extent[0]; ++y) {
        // Unsigned: above the image it is a huge number, which is outside, too.
        const uint64_t row = y * t.stride[0] + dy - t.padding[0];
        for (uint64_t x = 0; x < t.extent[1]; ++x) {
          const uint64_t column = x * t.stride[1] + dx - t.padding[1];
          const bool inside = row < t.h && column < t.w;
          const int number = inside ? image[row * t.w + column] : t.fill;
          put(((first + y) * t.extent[1] + x) * machine.lanes() + lane, number);
        }
      }
    }
  }
}

inline std::vector<uint8_t> Pack(const Tensor& t, const Machine& machine, const int8_t* nchw,
                                 const std::string& where) {
  std::vector<uint8_t> packed(static_cast<size_t>(t.packed_bytes(machine)));
  if (machine.inp_bits == 8) {
    Place(t, machine, nchw, [&](uint64_t lane, int number) {
      packed[static_cast<size_t>(lane)] = static_cast<uint8_t>(number);
    });
    return packed;
  }
  // Digits of 4 bits, low plane first.
  int ones = 0;
  for (uint64_t p = 0; p < t.planes; ++p) ones = ones * 16 + 1;
  const int low = -8 * ones, high = 7 * ones;
  const uint64_t plane = t.plane_bytes(machine);
  Place(t, machine, nchw, [&](uint64_t lane, int number) {
    if (number < low || number > high) {
      Fail(where, "must be in [" + std::to_string(low) + ", " + std::to_string(high) + "]",
           std::to_string(number));
    }
    for (uint64_t p = 0; p < t.planes; ++p, number = (number + 8) >> 4) {
      uint8_t& byte = packed[static_cast<size_t>(p * plane + lane / 2)];
      const int shift = static_cast<int>(lane % 2) * 4;
      byte = static_cast<uint8_t>((byte & ~(15 << shift)) | (number & 15) << shift);
    }
  });
  return packed;
}

inline std::vector<int32_t> Unpack(const Tensor& t, const Machine& machine,
                                   const std::vector<uint8_t>& packed) {
  std::vector<int32_t> numbers(static_cast<size_t>(t.elems()));
  const uint64_t plane = t.plane_bytes(machine);
  const uint64_t blocks = (t.c + machine.block - 1) / machine.block;
  const uint32_t bits = machine.inp_bits;
  size_t at = 0;
  for (uint64_t n = 0; n < t.n; ++n) {
    for (uint64_t c = 0; c < t.c; ++c) {
      const uint64_t first = (n / machine.batch * blocks + c / machine.block) * t.extent[0];
      for (uint64_t y = 0; y < t.h; ++y) {
        for (uint64_t x = 0; x < t.w; ++x, ++at) {
          const uint64_t pixel = (first + t.padding[0] + y) * t.extent[1] + t.padding[1] + x;
          const uint64_t lane =
              pixel * machine.lanes() + n % machine.batch * machine.block + c % machine.block;
          // Plain bits of int32, signed digits of int8.
          uint32_t plain = 0;
          int32_t digits = 0;
          for (uint64_t p = t.planes; p-- > 0;) {
            const uint8_t byte = packed[static_cast<size_t>(p * plane + lane * bits / 8)];
            const uint32_t digit = bits == 8 ? byte : byte >> lane % 2 * 4 & 15;
            const int32_t half = int32_t{1} << (bits - 1);
            plain = plain << bits | digit;
            digits = digits * 2 * half + ((static_cast<int32_t>(digit) ^ half) - half);
          }
          numbers[at] = t.is_int32 ? static_cast<int32_t>(plain) : static_cast<int8_t>(digits);
        }
      }
    }
  }
  return numbers;
}

}  // namespace vta_run

#endif  // FLOW_RUNNER_VTA_PROGRAM_H_
