#include "config.h"

#include <algorithm>
#include <string>
#include <utility>

#include "error.h"

namespace vta {
namespace {

// The largest buffer of inp, wgt or acc elements, as in vta_config/hardware.py.
constexpr uint32_t kMaxLogBuffBytes = 28;

void CheckRange(const char* name, uint32_t value, uint32_t low, uint32_t high) {
  if (value < low || value > high) {
    Fail(ErrorKind::kConfig, std::string("config.") + name,
         "must be in [" + std::to_string(low) + ", " + std::to_string(high) + "]",
         std::to_string(value), "was the program made for this version?");
  }
}

}  // namespace

Config Config::FromWords(const uint32_t (&words)[kConfigWords]) {
  Config c;
  c.log_inp_width = words[0];
  c.log_wgt_width = words[1];
  c.log_acc_width = words[2];
  c.log_batch = words[3];
  c.log_block = words[4];
  c.log_uop_buff_bytes = words[5];
  c.log_inp_buff_bytes = words[6];
  c.log_wgt_buff_bytes = words[7];
  c.log_acc_buff_bytes = words[8];
  c.bus_bits = words[9];
  c.mul = (words[10] & 1) != 0;
  c.acc_8bit = (words[10] & 2) != 0;
  c.shr_register = (words[10] & 4) != 0;
  c.clock_hz = words[11];
  c.arena_bytes = words[12];
  c.burst_beats = words[14];
  CheckRange("log_inp_width", c.log_inp_width, 2, 3);
  CheckRange("log_wgt_width", c.log_wgt_width, 2, 3);
  CheckRange("log_acc_width", c.log_acc_width, 5, 5);
  CheckRange("log_batch", c.log_batch, 0, 4);
  CheckRange("log_block", c.log_block, 2, 7);
  CheckRange("log_uop_buff_bytes", c.log_uop_buff_bytes, 3, 18);
  // 2 to 65,536 elements.
  CheckRange("log_inp_buff_bytes", c.log_inp_buff_bytes, c.log_inp_bytes() + 1,
             std::min(c.log_inp_bytes() + 16, kMaxLogBuffBytes));
  CheckRange("log_wgt_buff_bytes", c.log_wgt_buff_bytes, c.log_wgt_bytes() + 1,
             std::min(c.log_wgt_bytes() + 16, kMaxLogBuffBytes));
  CheckRange("log_acc_buff_bytes", c.log_acc_buff_bytes, c.log_acc_bytes() + 1,
             std::min(c.log_acc_bytes() + 16, kMaxLogBuffBytes));
  CheckRange("capabilities", words[10], 0, 7);
  CheckRange("bus_bits", c.bus_bits, 32, 512);
  if ((c.bus_bits & (c.bus_bits - 1)) != 0) {
    Fail(ErrorKind::kConfig, "config.bus_bits", "must be a power of two",
         std::to_string(c.bus_bits), "was the program made for this version?");
  }
  if (c.burst_beats < 2 || c.burst_beats > 256 || (c.burst_beats & (c.burst_beats - 1)) != 0) {
    Fail(ErrorKind::kConfig, "config.burst_beats", "must be a power of two in [2, 256]",
         std::to_string(c.burst_beats), "was the program made for this version?");
  }
  return c;
}

void Config::CheckRuns() const {
  for (const auto& [name, value] :
       {std::pair<const char*, uint32_t>{"log_inp_width", log_inp_width},
        {"log_wgt_width", log_wgt_width}}) {
    if (value == 3) continue;
    Fail(ErrorKind::kConfig, std::string("config.") + name, "must be 3 (int8) to simulate",
         std::to_string(value), "machines of narrower numbers can only be decoded");
  }
}

size_t Config::dram_bytes(Memory memory) const {
  switch (memory) {
    case Memory::kUop:
      return kUopBytes;
    case Memory::kWgt:
      return wgt_bytes();
    case Memory::kInp:
      return inp_bytes();
    case Memory::kAcc:
      return acc_bytes();
    case Memory::kOut:
      return out_bytes();
    case Memory::kAcc8bit:
      break;
  }
  return inp_bytes();
}

size_t Config::depth(Memory memory) const {
  switch (memory) {
    case Memory::kUop:
      return uop_depth();
    case Memory::kWgt:
      return wgt_depth();
    case Memory::kInp:
      return inp_depth();
    case Memory::kAcc:
    case Memory::kOut:
    case Memory::kAcc8bit:
      break;
  }
  return acc_depth();
}

}  // namespace vta
