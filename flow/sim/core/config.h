// The machine as the core sees it: the words of a program's CONFIG section (machine.gen.h) and what
// follows from them.
#ifndef FLOW_SIM_CORE_CONFIG_H_
#define FLOW_SIM_CORE_CONFIG_H_

#include <cstddef>
#include <cstdint>

#include "isa.gen.h"
#include "machine.gen.h"

namespace vta {

inline constexpr size_t kInsnBytes = 16;
inline constexpr uint32_t kLogUopBytes = 2;
inline constexpr size_t kUopBytes = size_t{1} << kLogUopBytes;
inline constexpr size_t kPageBytes = 4096;

struct Config {
  uint32_t log_inp_width = 3;
  uint32_t log_wgt_width = 3;
  uint32_t log_acc_width = 5;
  uint32_t log_batch = 0;
  uint32_t log_block = 4;
  uint32_t log_uop_buff_bytes = 15;
  uint32_t log_inp_buff_bytes = 15;
  uint32_t log_wgt_buff_bytes = 18;
  uint32_t log_acc_buff_bytes = 17;
  uint32_t bus_bits = 64;
  uint32_t burst_beats = 16;
  bool mul = false;
  bool acc_8bit = false;
  bool shr_register = false;
  uint32_t clock_hz = 100000000;
  uint32_t arena_bytes = 0;

  // Reads the words of a CONFIG section. Throws ConfigError when a machine cannot be built from
  // them.
  static Config FromWords(const uint32_t (&words)[kConfigWords]);

  size_t batch() const { return size_t{1} << log_batch; }
  size_t block() const { return size_t{1} << log_block; }
  // Lanes (numbers) of an inp, acc or out element.
  size_t lanes() const { return batch() * block(); }
  // Bits of a lane: 8 or 4. Lane i of an element lies at bits `bits * i` and up, little endian.
  uint32_t inp_bits() const { return uint32_t{1} << log_inp_width; }
  uint32_t wgt_bits() const { return uint32_t{1} << log_wgt_width; }
  size_t inp_bytes() const { return size_t{1} << log_inp_bytes(); }
  size_t wgt_bytes() const { return size_t{1} << log_wgt_bytes(); }
  size_t acc_bytes() const { return size_t{1} << log_acc_bytes(); }
  size_t out_bytes() const { return inp_bytes(); }
  uint32_t log_inp_bytes() const { return log_batch + log_block + log_inp_width - 3; }
  uint32_t log_wgt_bytes() const { return 2 * log_block + log_wgt_width - 3; }
  uint32_t log_acc_bytes() const { return log_batch + log_block + log_acc_width - 3; }
  uint32_t log_uop_depth() const { return log_uop_buff_bytes - kLogUopBytes; }
  uint32_t log_inp_depth() const { return log_inp_buff_bytes - log_inp_bytes(); }
  uint32_t log_wgt_depth() const { return log_wgt_buff_bytes - log_wgt_bytes(); }
  uint32_t log_acc_depth() const { return log_acc_buff_bytes - log_acc_bytes(); }
  size_t uop_depth() const { return size_t{1} << log_uop_depth(); }
  size_t inp_depth() const { return size_t{1} << log_inp_depth(); }
  size_t wgt_depth() const { return size_t{1} << log_wgt_depth(); }
  size_t acc_depth() const { return size_t{1} << log_acc_depth(); }
  // Bytes of one DRAM element of `memory`: dram_base counts these.
  size_t dram_bytes(Memory memory) const;
  // Elements that the scratchpad of `memory` holds.
  size_t depth(Memory memory) const;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_CONFIG_H_
