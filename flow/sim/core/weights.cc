#include "weights.h"

#include <algorithm>
#include <cstring>

namespace vta {
namespace {

// Copies of the constants: parts of a layer may want them in different orders.
constexpr uint64_t kMostCopies = 2;
// Changes of constants after which they are none.
constexpr int kMostChanges = 2;
constexpr uint32_t kAny = 0, kZeros = 1, kDiagonals = 2;

// Elements of DRAM that a LOAD or STORE spans, gaps between its rows included.
Range ElementsOf(const Insn& insn) {
  const uint64_t rows = insn.y_size == 0 ? 0 : insn.y_size - 1;
  return {insn.dram_base, insn.dram_base + rows * insn.x_stride + insn.x_size};
}

// The spans of all LOADs of wgt that no STORE touches, in elements.
std::vector<Range> ConstantSpans(const std::vector<Insn>& insns, const Config& config) {
  const uint64_t out_bytes = config.out_bytes(), wgt_bytes = config.wgt_bytes();
  std::vector<Range> stored, loaded;
  for (const Insn& insn : insns) {
    if (insn.op != Opcode::kStore || insn.dram_elems() == 0) continue;
    const Range r = ElementsOf(insn);
    stored.push_back(
        {r.begin * out_bytes / wgt_bytes, (r.end * out_bytes + wgt_bytes - 1) / wgt_bytes});
  }
  stored = Union(std::move(stored));
  for (const Insn& insn : insns) {
    if (insn.op != Opcode::kLoad || insn.memory != Memory::kWgt || insn.dram_elems() == 0) continue;
    const Range r = ElementsOf(insn);
    const auto next =
        std::upper_bound(stored.begin(), stored.end(), r.begin,
                         [](uint64_t begin, const Range& s) { return begin < s.end; });
    if (next == stored.end() || next->begin >= r.end) loaded.push_back(r);
  }
  return Union(std::move(loaded));
}

}  // namespace

AlignedBytes::AlignedBytes(size_t bytes) : storage_(bytes + 63) {
  uint8_t* start = storage_.data();
  data_ = start + (64 - reinterpret_cast<uintptr_t>(start) % 64) % 64;
}

Weights::Weights(const Config& config, const Kernels& kernels, const std::vector<Insn>& insns,
                 uint64_t most_bytes)
    : config_(config),
      kernels_(kernels),
      lines_(static_cast<uint32_t>(kernels.wgt_bytes(config.block()) / kLineBytes)),
      spans_([&] {
        std::vector<Span> spans;
        for (const Range& r : ConstantSpans(insns, config)) {
          spans.push_back({r.begin, r.end, constants_});
          constants_ += r.end - r.begin;
        }
        if (constants_ <= most_bytes / BytesOf()) return spans;
        constants_ = 0;
        return std::vector<Span>();
      }()),
      copies_(std::min<uint64_t>(kMostCopies * constants_, most_bytes / BytesOf() - constants_)),
      packed_bytes_(((config.wgt_depth() + 1 + constants_ + copies_) * lines_ + kLinesBehind) *
                    kLineBytes),
      corrections_((config.wgt_depth() + 1 + constants_) * config.block()),
      unpacked_(config.block() * config.block()) {
  places_.reserve(config.wgt_depth());
  for (size_t e = 0; e < config.wgt_depth(); ++e) places_.push_back(PlaceOf(e));
}

void Weights::Clear(size_t at, size_t count) {
  std::fill_n(places_.begin() + static_cast<ptrdiff_t>(at), count, zeros());
}

void Weights::Load(size_t at, const uint8_t* from, uint64_t dram, size_t count) {
  uint32_t place = Find(dram, count);
  if (place == kNowhere) {
    place = PlaceOf(at);
    PackElements(from, place, count);
  }
  for (size_t e = at; e < at + count; ++e, place += lines_) places_[e] = place;
}

void Weights::SetPlaces(const std::vector<uint32_t>& places) {
  for (size_t e = 0; e < places.size(); ++e) {
    if (places[e] != kNowhere) places_[e] = places[e];
  }
}

void Weights::PackElements(const uint8_t* from, uint32_t place, size_t count) {
  const size_t block = config_.block(), bytes = config_.wgt_bytes();
  const bool narrow = config_.wgt_bits() == 4;
  for (size_t e = 0; e < count; ++e, from += bytes, place += lines_) {
    if (narrow) kernels_.unpack4(from, unpacked_.data(), block * block);
    kernels_.pack_wgt(narrow ? unpacked_.data() : from,
                      packed_bytes_.data() + size_t{place} * kLineBytes, block,
                      corrections_.data() + place / lines_ * block);
  }
}

bool Weights::IsConstant(uint64_t begin, uint64_t end) const {
  const uint64_t bytes = config_.wgt_bytes();
  for (const Span& s : spans_) {
    if (begin < s.end * bytes && s.begin * bytes < end) return true;
  }
  return false;
}

void Weights::Forget() {
  if (!is_packed_) return;
  is_packed_ = false;
  for (size_t e = 0; e < places_.size(); ++e) {
    const uint32_t slot = PlaceOf(e);
    if (places_[e] <= zeros()) continue;
    std::memcpy(packed_bytes_.data() + size_t{slot} * kLineBytes,
                packed_bytes_.data() + size_t{places_[e]} * kLineBytes, lines_ * kLineBytes);
    std::copy_n(corrections(places_[e]), config_.block(),
                corrections_.data() + e * config_.block());
    places_[e] = slot;
  }
  if (++changes_ > kMostChanges) spans_.clear();
}

void Weights::Pack(const Dram& dram) {
  if (is_packed_) return;
  const uint64_t bytes = config_.wgt_bytes();
  kinds_.assign(constants_, kAny);
  diagonals_.clear();
  for (const Span& s : spans_) {
    const uint8_t* from = dram.Find(s.begin * bytes, (s.end - s.begin) * bytes);
    for (uint64_t e = s.begin; e < s.end; ++e, from += bytes) {
      const size_t constant = s.first + (e - s.begin);
      const uint32_t place = PlaceOf(config_.wgt_depth() + 1 + constant);
      PackElements(from, place, 1);
      Classify(config_.wgt_bits() == 4 ? unpacked_.data() : from, constant);
    }
  }
  is_packed_ = true;
}

void Weights::Classify(const uint8_t* from, size_t constant) {
  const size_t block = config_.block();
  bool zeros = true;
  for (size_t o = 0; o < block; ++o) {
    for (size_t i = 0; i < block; ++i) {
      if (from[o * block + i] == 0) continue;
      if (o != i) return;
      zeros = false;
    }
  }
  if (zeros) {
    kinds_[constant] = kZeros;
    return;
  }
  kinds_[constant] = kDiagonals + static_cast<uint32_t>(diagonals_.size());
  for (size_t o = 0; o < block; ++o) {
    diagonals_.push_back(static_cast<int8_t>(from[o * block + o]));
  }
}

uint32_t Weights::Find(uint64_t dram, size_t count) const {
  if (!is_packed_) return kNowhere;
  const auto next = std::upper_bound(spans_.begin(), spans_.end(), dram,
                                     [](uint64_t d, const Span& s) { return d < s.begin; });
  if (next == spans_.begin()) return kNowhere;
  const Span& s = *std::prev(next);
  if (dram + count > s.end) return kNowhere;
  return PlaceOf(config_.wgt_depth() + 1 + s.first + (dram - s.begin));
}

void Weights::StartCopies(uint64_t most_bytes) {
  copied_ = 0;
  most_copied_ = std::min(uint64_t{copies_} * lines_, most_bytes / kLineBytes);
}

uint32_t Weights::Copy(const std::vector<uint32_t>& lines, uint32_t count) {
  if (lines.size() * count > most_copied_ - copied_) return kNowhere;
  const uint32_t first =
      PlaceOf(config_.wgt_depth() + 1 + constants_) + static_cast<uint32_t>(copied_);
  uint8_t* to = packed_bytes_.data() + size_t{first} * kLineBytes;
  for (const uint32_t line : lines) {
    std::memcpy(to, packed_bytes_.data() + size_t{line} * kLineBytes, count * kLineBytes);
    to += count * kLineBytes;
  }
  copied_ += lines.size() * count;
  return first;
}

bool Weights::IsZero(uint32_t place) const {
  return place == zeros() || (place > zeros() && kinds_[ConstantAt(place)] == kZeros);
}

const int32_t* Weights::Diagonal(uint32_t place) const {
  if (place <= zeros() || kinds_[ConstantAt(place)] < kDiagonals) return nullptr;
  return &diagonals_[kinds_[ConstantAt(place)] - kDiagonals];
}

}  // namespace vta
