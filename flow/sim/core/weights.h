// The wgt scratchpad. Weights are mostly constants of a program, so each constant element is packed
// once, and a LOAD of it only notes where it lies.
#ifndef FLOW_SIM_CORE_WEIGHTS_H_
#define FLOW_SIM_CORE_WEIGHTS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "config.h"
#include "decode.h"
#include "dram.h"
#include "kernels.h"
#include "zeroed_array.h"

namespace vta {

// Zeroed bytes, 64-byte aligned.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t bytes);
  uint8_t* data() const { return data_; }

 private:
  ZeroedArray<uint8_t> storage_;
  uint8_t* data_;
};

// A place is where a packed element begins, in lines from data(). Every scratchpad element has a
// slot of its own; behind the slots lie an element of zeros, then the constants, then copies of
// parts of these in another order.
class Weights {
 public:
  // Constants are what `insns` load and no STORE of them writes; none where they take more than
  // `most_bytes`.
  Weights(const Config& config, const Kernels& kernels, const std::vector<Insn>& insns,
          uint64_t most_bytes);

  const uint8_t* data() const { return packed_bytes_.data(); }
  // Where a scratchpad element lies now.
  uint32_t place(size_t element) const { return places_[element]; }
  // int32[block] of a packed element, where kernels have corrections.
  const int32_t* corrections(uint32_t place) const {
    return corrections_.data() + place / lines_ * config_.block();
  }

  // LOAD: elements become zero, or those of DRAM from element `dram` on, whose bytes are `from`.
  void Clear(size_t at, size_t count);
  void Load(size_t at, const uint8_t* from, uint64_t dram, size_t count);

  // Elements lie at `places`; those that are kNowhere stay.
  void SetPlaces(const std::vector<uint32_t>& places);

  // Whether DRAM bytes of [begin, end) are among the constants.
  bool IsConstant(uint64_t begin, uint64_t end) const;
  // Constant bytes of DRAM are about to change: what the scratchpad holds stays, and constants are
  // packed again. Where that happens often, they are constants no more.
  void Forget();
  // Packs the constants, unless they are packed.
  void Pack(const Dram& dram);

  // The place of constant DRAM element `dram` and the `count` - 1 behind it, one after the other;
  // kNowhere when they are not all packed constants.
  static constexpr uint32_t kNowhere = UINT32_MAX;
  uint32_t Find(uint64_t dram, size_t count) const;
  uint64_t constant_bytes() const { return constants_ * BytesOf(); }
  uint32_t zeros() const { return PlaceOf(config_.wgt_depth()); }
  uint32_t lines() const { return lines_; }
  // Of a column of a packed element.
  uint32_t column_lines() const {
    return lines_ / static_cast<uint32_t>(std::max<size_t>(config_.block() / kColumn, 1));
  }
  // Whether a packed constant, or the element of zeros, has only zeros.
  bool IsZero(uint32_t place) const;
  // Forgets all copies. From now on they may take so many bytes, as far as there is room.
  void StartCopies(uint64_t most_bytes);
  // Copies parts of `count` lines each, which begin at `lines`, one behind the other; returns the
  // first line of the copy, or kNowhere where it does not fit.
  uint32_t Copy(const std::vector<uint32_t>& lines, uint32_t count);
  uint64_t copied_bytes() const { return uint64_t{copied_} * kLineBytes; }
  // The diagonal, int32[block], of a packed constant that has nothing else; or null.
  const int32_t* Diagonal(uint32_t place) const;

 private:
  // Constant elements of DRAM, and the first of them in the order of packing.
  struct Span {
    uint64_t begin, end;
    size_t first;
  };

  // Bytes of an element and its corrections.
  uint64_t BytesOf() const { return uint64_t{lines_} * kLineBytes + config_.block() * 4; }
  uint32_t PlaceOf(size_t index) const { return static_cast<uint32_t>(index) * lines_; }
  void PackElements(const uint8_t* from, uint32_t place, size_t count);
  void Classify(const uint8_t* from, size_t constant);
  size_t ConstantAt(uint32_t place) const { return place / lines_ - config_.wgt_depth() - 1; }

  Config config_;
  const Kernels& kernels_;
  uint32_t lines_;  // of a packed element
  size_t constants_ = 0;
  uint64_t copied_ = 0, most_copied_ = 0;  // lines
  std::vector<Span> spans_;
  size_t copies_;  // elements that there is room for
  bool is_packed_ = false;
  int changes_ = 0;
  AlignedBytes packed_bytes_;
  ZeroedArray<int32_t> corrections_;
  AlignedBytes unpacked_;  // int8 lanes of a 4-bit element
  std::vector<uint32_t> places_;
  // Of each constant: 0 any, 1 zeros, else 2 plus where its diagonal begins.
  std::vector<uint32_t> kinds_;
  std::vector<int32_t> diagonals_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_WEIGHTS_H_
