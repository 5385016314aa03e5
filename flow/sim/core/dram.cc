#include "dram.h"

#include <algorithm>
#include <cstdio>

#include "error.h"

namespace vta {
namespace {

constexpr uint64_t kAlign = 64;

std::string HexRange(uint64_t begin, uint64_t end) {
  char text[64];
  std::snprintf(text, sizeof(text), "[0x%llx, 0x%llx)", static_cast<unsigned long long>(begin),
                static_cast<unsigned long long>(end));
  return text;
}

}  // namespace

std::vector<Range> Union(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  size_t count = 0;
  for (const Range& r : ranges) {
    if (r.begin >= r.end) continue;
    if (count != 0 && r.begin <= ranges[count - 1].end) {
      ranges[count - 1].end = std::max(ranges[count - 1].end, r.end);
    } else {
      ranges[count++] = r;
    }
  }
  ranges.resize(count);
  return ranges;
}

Dram::Dram(std::vector<std::pair<uint64_t, uint64_t>> segments) {
  std::sort(segments.begin(), segments.end());
  for (const auto& [address, bytes] : segments) {
    if (bytes == 0) continue;
    if (address + bytes < address || address + bytes > uint64_t{1} << 40) {
      Fail(ErrorKind::kCapacity, "dram segment", "must end below 2^40",
           HexRange(address, address + bytes));
    }
    if (!segments_.empty() && address < segments_.back().end) {
      Fail(ErrorKind::kCapacity, "dram segment " + HexRange(address, address + bytes),
           "must start after the one before it ends",
           HexRange(segments_.back().begin, segments_.back().end));
    }
    if (!segments_.empty() && address == segments_.back().end) {
      segments_.back().end = address + bytes;
    } else {
      segments_.push_back({address, address + bytes});
    }
  }
  uint64_t total = kAlign;
  for (const Range& s : segments_) {
    total += (s.end - s.begin + 2 * kAlign - 1) / kAlign * kAlign;
    bytes_ += s.end - s.begin;
  }
  storage_ = ZeroedArray<uint8_t>(total);
  uint8_t* at = storage_.data();
  at += (kAlign - reinterpret_cast<uintptr_t>(at) % kAlign) % kAlign;
  for (const Range& s : segments_) {
    // Keep the alignment of the address within a line, so that aligned elements stay aligned.
    data_.push_back(at + s.begin % kAlign);
    at += (s.begin % kAlign + s.end - s.begin + kAlign - 1) / kAlign * kAlign;
  }
}

uint8_t* Dram::Find(uint64_t address, uint64_t bytes) const {
  auto next = std::upper_bound(segments_.begin(), segments_.end(), address,
                               [](uint64_t a, const Range& s) { return a < s.begin; });
  if (next == segments_.begin()) return nullptr;
  const Range& s = *--next;
  if (address > s.end || bytes > s.end - address) return nullptr;
  return data_[static_cast<size_t>(next - segments_.begin())] + (address - s.begin);
}

uint8_t* Dram::At(uint64_t address, uint64_t bytes, const std::string& where,
                  const std::string& hint) const {
  uint8_t* found = Find(address, bytes);
  if (found == nullptr) {
    Fail(ErrorKind::kCapacity, where, "must stay inside the DRAM segments " + ToString(),
         HexRange(address, address + bytes), hint);
  }
  return found;
}

std::string Dram::ToString() const {
  std::string text;
  for (const Range& s : segments_) text += (text.empty() ? "" : ", ") + HexRange(s.begin, s.end);
  return text.empty() ? "(none)" : text;
}

}  // namespace vta
