#include "program.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <utility>

#include "decode.h"
#include "error.h"

namespace vta {
namespace {

constexpr size_t kHeaderBytes = 32;
constexpr size_t kSectionBytes = 32;
constexpr size_t kTensorBytes = 64;
constexpr size_t kFillBytes = 12;
constexpr uint64_t kSectionAlign = 64;
constexpr uint32_t kMaxSections = 64;
constexpr char kMagic[] = "VTAFLOW1";

uint32_t U32(const uint8_t* p) {
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

uint64_t U64(const uint8_t* p) { return U32(p) | uint64_t{U32(p + 4)} << 32; }

[[noreturn]] void Damaged(const std::string& must, const std::string& got = "") {
  Fail(ErrorKind::kArtifact, "program", must, got, "compile it again");
}

void Require(bool holds, const std::string& must, uint64_t got) {
  if (!holds) Damaged(must, std::to_string(got));
}

std::map<std::string, Bytes> ReadSections(const uint8_t* data, size_t size) {
  Require(size >= kHeaderBytes, "must have a header of 32 bytes", size);
  if (std::memcmp(data, kMagic, 8) != 0) Damaged("must start with VTAFLOW1", "another file");
  Require(U32(data + 8) == kPlainVersion || U32(data + 8) == kProgramVersion,
          "must be version 3 or 4", U32(data + 8));
  const uint32_t count = U32(data + 12);
  Require(U64(data + 16) == size, "must have " + std::to_string(U64(data + 16)) + " bytes", size);
  Require(count <= kMaxSections && kHeaderBytes + count * kSectionBytes <= size,
          "must hold its section table", count);
  Require(U32(data + 28) == 0, "must have 0 in reserved fields", U32(data + 28));
  if (Crc32(data + kHeaderBytes, count * kSectionBytes) != U32(data + 24)) {
    Damaged("must have an undamaged section table", "another checksum");
  }
  std::map<std::string, Bytes> sections;
  uint64_t end = kHeaderBytes + count * kSectionBytes;
  for (uint32_t i = 0; i < count; ++i) {
    const uint8_t* row = data + kHeaderBytes + i * kSectionBytes;
    const char* tag_bytes = reinterpret_cast<const char*>(row);
    const std::string tag(tag_bytes, strnlen(tag_bytes, 8));
    const uint64_t offset = U64(row + 8), bytes = U64(row + 16);
    Require(U32(row + 28) == 0, "must have 0 in reserved fields", U32(row + 28));
    Require(
        offset % kSectionAlign == 0 && offset >= end && offset <= size && bytes <= size - offset,
        "must hold its section " + tag, offset);
    for (; end < offset; ++end) Require(data[end] == 0, "must have 0 between sections", data[end]);
    end = offset + bytes;
    if (Crc32(data + offset, bytes) != U32(row + 24)) {
      Damaged("must have an undamaged section " + tag, "another checksum");
    }
    if (!sections.emplace(tag, Bytes{data + offset, bytes}).second) {
      Damaged("must have one section " + tag, "two");
    }
  }
  for (; end < size; ++end) Require(data[end] == 0, "must end with its last section", data[end]);
  for (const char* tag : {"CONFIG", "INSNS", "CONSTS", "TENSORS", "META"}) {
    if (sections.count(tag) == 0) Damaged(std::string("must have a section ") + tag, "none");
  }
  return sections;
}

// JSON readers call themselves for each bracket.
void CheckDepth(Bytes json) {
  size_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size; ++i) {
    const uint8_t c = json.data[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxMetaDepth) {
        Damaged("must have a META of at most " + std::to_string(kMaxMetaDepth) + " levels", "more");
      }
    } else if ((c == ']' || c == '}') && depth != 0) {
      --depth;
    }
  }
}

TensorInfo ReadTensor(const uint8_t* row) {
  Require(U32(row) <= 1, "must have tensor roles in [0, 1]", U32(row));
  const uint32_t type = U32(row + 4) & 0xff;
  Require(type <= 1 && U32(row + 4) >> 24 == 0, "must have tensor kinds in [0, 1]", U32(row + 4));
  TensorInfo t;
  t.is_output = U32(row) == 1;
  t.is_int32 = type == 1;
  t.SetPlanes(U32(row + 4) >> 8 & 0xff);
  t.form.fill = static_cast<int8_t>(U32(row + 4) >> 16 & 0xff);
  t.address = U64(row + 8);
  t.n = U32(row + 16);
  t.c = U32(row + 20);
  t.h = U32(row + 24);
  t.w = U32(row + 28);
  uint32_t* pairs[] = {t.form.patch, t.form.stride, t.form.padding, t.form.extent};
  for (int i = 0; i < 8; ++i) pairs[i / 2][i % 2] = U32(row + 32 + i * 4);
  return t;
}

uint64_t CeilDiv(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

// Calls f(nchw index, lane of a plane) for every element of a tensor that keeps its pixels.
template <typename F>
void ForEachElement(const TensorInfo& t, const Config& config, F f) {
  const uint64_t batch = config.batch(), block = config.block();
  const uint64_t channel_blocks = CeilDiv(t.c, block), columns = t.form.extent[1];
  const uint64_t corner = t.form.padding[0] * columns + t.form.padding[1];
  uint64_t at = 0;
  for (uint64_t n = 0; n < t.n; ++n) {
    for (uint64_t c = 0; c < t.c; ++c) {
      const uint64_t picture = (n / batch * channel_blocks + c / block) * t.form.extent[0];
      for (uint64_t y = 0; y < t.h; ++y) {
        uint64_t pixel = (picture + y) * columns + corner;
        for (uint64_t x = 0; x < t.w; ++x, ++pixel, ++at) {
          f(at, (pixel * batch + n % batch) * block + c % block);
        }
      }
    }
  }
}

// The positions [begin, end) along an axis whose pixel `offset` of the patch lies in the picture.
struct Inside {
  Inside(const InputForm& form, int axis, uint64_t offset, uint64_t size) {
    const uint64_t stride = form.stride[axis], padding = form.padding[axis];
    begin = offset >= padding ? 0 : CeilDiv(padding - offset, stride);
    end = std::min<uint64_t>(
        form.extent[axis], size + padding <= offset ? 0 : CeilDiv(size + padding - offset, stride));
  }
  uint64_t begin, end;
};

// Calls f(lane, number) for every number of a tensor in its form; `lane` counts the lanes of a
// plane.
template <typename F>
void PlaceElements(const TensorInfo& tensor, const Config& config, const int8_t* nchw, F f) {
  const InputForm& form = tensor.form;
  const uint64_t batch = config.batch(), block = config.block(), lanes = config.lanes();
  const uint64_t rows = form.extent[0], columns = form.extent[1], w = tensor.w;
  const uint64_t patch = uint64_t{form.patch[0]} * form.patch[1];
  const uint64_t channel_blocks = CeilDiv(tensor.c * patch, block);
  for (uint64_t i = 0; i < tensor.n * patch * tensor.c; ++i) {
    const uint64_t c = i % tensor.c, tap = i / tensor.c % patch, n = i / tensor.c / patch;
    const uint64_t dy = tap / form.patch[1], dx = tap % form.patch[1];
    const Inside y(form, 0, dy, tensor.h), x(form, 1, dx, w);
    const uint64_t channel = tap * tensor.c + c;
    const uint64_t first = (n / batch * channel_blocks + channel / block) * rows * columns;
    for (uint64_t at = 0; form.fill != 0 && at < rows * columns; ++at) {
      f((first + at) * lanes + n % batch * block + channel % block, form.fill);
    }
    for (uint64_t row = y.begin; row < y.end; ++row) {
      const uint64_t pixel_row = row * form.stride[0] + dy - form.padding[0];
      const int8_t* from = nchw + ((n * tensor.c + c) * tensor.h + pixel_row) * w;
      const uint64_t to = (first + row * columns) * lanes + n % batch * block + channel % block;
      for (uint64_t column = x.begin; column < x.end; ++column) {
        f(to + column * lanes, from[column * form.stride[1] + dx - form.padding[1]]);
      }
    }
  }
}

// As PlaceElements for lanes of a byte, four channels at a time where all have a pixel: neighbours
// are written together.
void PlaceBytes(const TensorInfo& tensor, const Config& config, const int8_t* nchw,
                uint8_t* packed) {
  const InputForm& form = tensor.form;
  const uint64_t block = config.block(), batch = config.batch(), lanes = config.lanes();
  const uint64_t rows = form.extent[0], columns = form.extent[1], stride = form.stride[1];
  const uint64_t channels = uint64_t{tensor.c} * form.patch[0] * form.patch[1];
  const uint64_t channel_blocks = CeilDiv(channels, block);
  for (uint64_t i = 0; i < tensor.n * channels; ++i) {
    const uint64_t n = i / channels, channel = i % channels;
    // The channels that are written here: `channel`, or four from there on.
    const uint64_t count = channel % 4 == 0 && channel + 4 <= channels ? 4 : 1;
    const uint64_t first = (n / batch * channel_blocks + channel / block) * rows * columns;
    uint8_t* const to = packed + first * lanes + n % batch * block + channel % block;
    const int8_t* plane[4];
    uint64_t row_begin[4], row_end[4], column_begin[4], column_end[4];
    int64_t above[4];
    for (uint64_t k = 0; k < count; ++k) {
      const uint64_t c = (channel + k) % tensor.c, tap = (channel + k) / tensor.c;
      const uint64_t dy = tap / form.patch[1], dx = tap % form.patch[1];
      const Inside y(form, 0, dy, tensor.h), x(form, 1, dx, tensor.w);
      const bool any = y.begin < y.end && x.begin < x.end;
      row_begin[k] = any ? y.begin : rows;
      row_end[k] = y.end;
      column_begin[k] = x.begin;
      column_end[k] = x.end;
      above[k] = static_cast<int64_t>(dy) - form.padding[0];
      plane[k] = nchw + (n * tensor.c + c) * tensor.h * tensor.w;
      if (any) plane[k] += x.begin * stride + dx - form.padding[1];
    }
    for (uint64_t row = 0; row < rows; ++row) {
      uint8_t* const to_row = to + row * columns * lanes;
      const int8_t* from[4];  // at the first pixel that is read
      uint64_t begin[4], end[4], both[2] = {0, columns};
      for (uint64_t k = 0; k < count; ++k) {
        const bool inside = row >= row_begin[k] && row < row_end[k];
        begin[k] = inside ? column_begin[k] : 0;
        end[k] = inside ? column_end[k] : 0;
        const int64_t pixel_row = static_cast<int64_t>(row * form.stride[0]) + above[k];
        from[k] = plane[k] + (inside ? pixel_row * int64_t{tensor.w} : 0);
        both[0] = std::max(both[0], begin[k]);
        both[1] = std::min(both[1], end[k]);
      }
      if (form.fill != 0) {
        for (uint64_t column = 0; column < columns; ++column) {
          std::memset(to_row + column * lanes, form.fill, count);
        }
      }
      const auto place = [&](uint64_t k, uint64_t from_column, uint64_t to_column) {
        for (uint64_t column = from_column; column < to_column; ++column) {
          to_row[column * lanes + k] = static_cast<uint8_t>(from[k][(column - begin[k]) * stride]);
        }
      };
      if (count == 1 || both[0] >= both[1]) {
        for (uint64_t k = 0; k < count; ++k) place(k, begin[k], end[k]);
        continue;
      }
      for (uint64_t k = 0; k < 4; ++k) {
        place(k, begin[k], both[0]);
        place(k, both[1], end[k]);
        from[k] += (both[0] - begin[k]) * stride;
      }
      for (uint64_t column = both[0], at = 0; column < both[1]; ++column, at += stride) {
        const int8_t four[4] = {from[0][at], from[1][at], from[2][at], from[3][at]};
        std::memcpy(to_row + column * lanes, four, 4);
      }
    }
    i += count - 1;
  }
}

}  // namespace

uint32_t Crc32(const uint8_t* bytes, size_t size) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ 0xedb88320U : value >> 1;
      t[i] = value;
    }
    return t;
  }();
  uint32_t crc = ~uint32_t{0};
  for (size_t i = 0; i < size; ++i) crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
  return ~crc;
}
uint64_t TensorInfo::plane_bytes(const Config& config) const {
  const uint64_t channels = uint64_t{c} * form.patch[0] * form.patch[1];
  return CeilDiv(n, config.batch()) * CeilDiv(channels, config.block()) * form.extent[0] *
         form.extent[1] * config.inp_bytes();
}

std::pair<int64_t, int64_t> TensorInfo::digit_range(uint32_t bits) const {
  int64_t ones = 0;
  for (uint32_t p = 0; p < planes; ++p) ones = (ones << bits) + 1;
  const int64_t half = int64_t{1} << (bits - 1);
  return {-half * ones, (half - 1) * ones};
}

bool TensorInfo::keeps_pixels() const {
  const InputForm& f = form;
  return f.patch[0] == 1 && f.patch[1] == 1 && f.stride[0] == 1 && f.stride[1] == 1 &&
         uint64_t{f.padding[0]} + h <= f.extent[0] && uint64_t{f.padding[1]} + w <= f.extent[1];
}

void CheckTensor(const TensorInfo& t, const Config& config, const std::string& where) {
  const InputForm& f = t.form;
  const double elems = double{1} * t.n * t.c * t.h * t.w;
  double packed = double{1} * t.n * t.c, reached = packed;
  bool sane = elems > 0 && elems <= kMaxTensorElems;
  for (int axis : {0, 1}) {
    packed *= double{1} * f.patch[axis] * f.extent[axis];
    sane = sane && f.stride[axis] != 0;
    // Rows and columns that positions reach, zeros included.
    const double span = (f.extent[axis] - 1.0) * f.stride[axis] + f.patch[axis];
    sane = sane && span < 1e9 && f.padding[axis] < 1e9;
    reached *= span;
  }
  sane = sane && packed > 0 && packed <= kMaxTensorElems && reached <= kMaxTensorElems;
  if (!sane) {
    Fail(ErrorKind::kArtifact, where, "must have dimensions of at least 1 that fit the arena",
         std::to_string(t.n) + "x" + std::to_string(t.c) + "x" + std::to_string(t.h) + "x" +
             std::to_string(t.w),
         "compile it again");
  }
  const uint32_t bits = config.inp_bits();
  const uint32_t least = t.is_int32 ? 32 / bits : 1, most = t.is_int32 ? least : bits == 8 ? 1 : 3;
  if (t.planes < least || t.planes > most) {
    Fail(ErrorKind::kArtifact, where,
         "must have " + (least == most ? "" : std::to_string(least) + " to ") +
             std::to_string(most) + " planes",
         std::to_string(t.planes), "compile it again");
  }
  const uint64_t bytes = t.packed_bytes(config);
  if (bytes > config.arena_bytes || t.address > config.arena_bytes - bytes) {
    Fail(ErrorKind::kArtifact, where,
         "must lie in the arena of " + std::to_string(config.arena_bytes) + " bytes",
         std::to_string(bytes) + " bytes at " + std::to_string(t.address), "compile it again");
  }
}

void ParseProgram(std::string file, Program* program) {
  program->file = std::move(file);
  const uint8_t* data = reinterpret_cast<const uint8_t*>(program->file.data());
  std::map<std::string, Bytes> sections = ReadSections(data, program->file.size());
  const Bytes config = sections["CONFIG"];
  Require(config.size == kConfigWords * 4,
          "must have a CONFIG of " + std::to_string(kConfigWords * 4) + " bytes", config.size);
  uint32_t words[kConfigWords];
  for (int i = 0; i < kConfigWords; ++i) words[i] = U32(config.data + i * 4);
  program->config = Config::FromWords(words);
  Require(words[config_word::kReserved] == 0, "must have 0 in reserved fields",
          words[config_word::kReserved]);
  program->consts_at = words[config_word::kConstantsAt];
  program->insns = sections["INSNS"];
  program->consts = sections["CONSTS"];
  program->meta = sections["META"];
  Require(program->meta.size <= kMaxMetaBytes,
          "must have a META of at most " + std::to_string(kMaxMetaBytes) + " bytes",
          program->meta.size);
  CheckDepth(program->meta);
  Require(program->insns.size % kInsnBytes == 0, "must have whole instructions",
          program->insns.size);
  Require(program->consts_at + program->consts.size <= program->config.arena_bytes,
          "must have constants that lie in the arena", program->consts.size);
  const Bytes tensors = sections["TENSORS"];
  Require(tensors.size % kTensorBytes == 0, "must have whole tensor records", tensors.size);
  for (size_t at = 0; at < tensors.size; at += kTensorBytes) {
    const TensorInfo t = ReadTensor(tensors.data + at);
    std::vector<TensorInfo>& list = t.is_output ? program->outputs : program->inputs;
    CheckTensor(t, program->config,
                std::string("program ") + (t.is_output ? "output " : "input ") +
                    std::to_string(list.size()));
    if (!t.is_output && t.is_int32) Damaged("must have int8 inputs", "int32");
    if (t.is_output && !t.keeps_pixels()) Damaged("must have plain outputs", "another form");
    list.push_back(t);
  }
  const Bytes fills = sections["FILLS"];
  Require(fills.size % kFillBytes == 0, "must have whole records in FILLS", fills.size);
  for (uint64_t at = 0, end = 0; at < fills.size; at += kFillBytes) {
    const uint8_t* row = fills.data + at;
    const uint64_t address = U32(row), size = U32(row + 4);
    Require(address >= end, "must have fills one behind the other", address);
    end = address + size;
    Require(end <= program->config.arena_bytes, "must have fills that lie in the arena", size);
    Require(U32(row + 8) <= 0xff, "must have bytes in [0, 255] in FILLS", U32(row + 8));
    program->fills.push_back({address, size, static_cast<uint8_t>(U32(row + 8))});
  }
}

void PackTensor(const TensorInfo& tensor, const Config& config, const int8_t* nchw, uint8_t* packed,
                const std::string& where) {
  std::memset(packed, 0, tensor.packed_bytes(config));
  if (config.inp_bits() == 8) {
    return PlaceBytes(tensor, config, nchw, packed);
  }
  const auto [low, high] = tensor.digit_range(4);
  const auto [least, most] = std::minmax_element(nchw, nchw + tensor.elems());
  for (const int number : {int{*least}, int{*most}, int{tensor.form.fill}}) {
    if (number >= low && number <= high) continue;
    Fail(ErrorKind::kCapacity, where,
         "must be in [" + std::to_string(low) + ", " + std::to_string(high) + "] to take " +
             std::to_string(tensor.planes) + " x 4 bits",
         std::to_string(number), "clip the numbers, or give them more planes");
  }
  const uint64_t plane = tensor.plane_bytes(config);
  PlaceElements(tensor, config, nchw, [=](uint64_t lane, int8_t value) {
    int rest = value;
    for (uint64_t p = 0; p < tensor.planes; ++p, rest = (rest + 8) >> 4) {
      uint8_t* byte = &packed[p * plane + lane / 2];
      const uint64_t shift = lane % 2 * 4;
      *byte = static_cast<uint8_t>((*byte & ~(15 << shift)) | (rest & 15) << shift);
    }
  });
}

void UnpackTensor(const TensorInfo& tensor, const Config& config, const uint8_t* packed,
                  void* nchw) {
  const uint64_t plane = tensor.plane_bytes(config);
  int8_t* bytes = static_cast<int8_t*>(nchw);
  int32_t* out = static_cast<int32_t*>(nchw);
  const auto nibble = [=](uint64_t p, uint64_t lane) {
    return uint32_t{packed[p * plane + lane / 2]} >> lane % 2 * 4 & 15;
  };
  if (config.inp_bits() == 8) {
    if (!tensor.is_int32) {
      return ForEachElement(tensor, config, [=](uint64_t to, uint64_t lane) {
        bytes[to] = static_cast<int8_t>(packed[lane]);
      });
    }
    return ForEachElement(tensor, config, [=](uint64_t to, uint64_t lane) {
      uint32_t value = 0;
      for (uint64_t p = 0; p < 4; ++p) value |= uint32_t{packed[p * plane + lane]} << 8 * p;
      out[to] = static_cast<int32_t>(value);
    });
  }
  if (tensor.is_int32) {
    return ForEachElement(tensor, config, [=](uint64_t to, uint64_t lane) {
      uint32_t value = 0;
      for (uint64_t p = 0; p < 8; ++p) value |= nibble(p, lane) << 4 * p;
      out[to] = static_cast<int32_t>(value);
    });
  }
  const uint64_t planes = tensor.planes;
  ForEachElement(tensor, config, [=](uint64_t to, uint64_t lane) {
    int value = 0;
    for (uint64_t p = planes; p-- > 0;) {
      value = value * 16 + (static_cast<int>(nibble(p, lane)) ^ 8) - 8;
    }
    bytes[to] = static_cast<int8_t>(value);
  });
}

}  // namespace vta
