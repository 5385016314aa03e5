// The memory that a program sees: byte segments at physical addresses.
#ifndef FLOW_SIM_CORE_DRAM_H_
#define FLOW_SIM_CORE_DRAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "zeroed_array.h"

namespace vta {

// A half-open range of byte addresses.
struct Range {
  uint64_t begin = 0;
  uint64_t end = 0;
};

// The same bytes as ranges that are ascending and do not touch.
std::vector<Range> Union(std::vector<Range> ranges);

class Dram {
 public:
  // Allocates zeroed memory for segments (address, bytes). Throws CapacityError when two overlap.
  // Adjacent segments become one, so that an access may cross from one to the next.
  explicit Dram(std::vector<std::pair<uint64_t, uint64_t>> segments);

  // The host address of [address, address + bytes), or null when it does not lie inside one
  // segment.
  uint8_t* Find(uint64_t address, uint64_t bytes) const;
  // As Find, but throws CapacityError naming `where` and `hint`.
  uint8_t* At(uint64_t address, uint64_t bytes, const std::string& where,
              const std::string& hint = "") const;
  const std::vector<Range>& segments() const { return segments_; }
  // The bytes of all segments.
  uint64_t bytes() const { return bytes_; }
  // "[0x1000, 0x3c000), [0x6d000, 0x6e000)".
  std::string ToString() const;

 private:
  std::vector<Range> segments_;
  std::vector<uint8_t*> data_;
  uint64_t bytes_ = 0;
  ZeroedArray<uint8_t> storage_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_DRAM_H_
