#include "config.h"

#include <algorithm>
#include <string>

#include "error.h"

namespace vta {
namespace {

void CheckRange(config_word::Index word, uint32_t value, uint32_t low, uint32_t high) {
  if (value < low || value > high) {
    Fail(ErrorKind::kConfig, std::string("config.") + kConfigWordTable[word].name,
         "must be in [" + std::to_string(low) + ", " + std::to_string(high) + "]",
         std::to_string(value), "was the program made for this version?");
  }
}

void CheckRange(config_word::Index word, uint32_t value) {
  CheckRange(word, value, kConfigWordTable[word].low, kConfigWordTable[word].high);
}

// Checks the bytes of a buffer: 2 to 65,536 elements, and no more than the word allows.
void CheckBuffer(config_word::Index word, uint32_t value, uint32_t log_elem_bytes) {
  CheckRange(word, value, log_elem_bytes + 1,
             std::min(log_elem_bytes + 16, kConfigWordTable[word].high));
}

void CheckPowerOfTwo(config_word::Index word, uint32_t value) {
  const auto& [name, low, high] = kConfigWordTable[word];
  if (value >= low && value <= high && (value & (value - 1)) == 0) return;
  Fail(ErrorKind::kConfig, std::string("config.") + name,
       "must be a power of two in [" + std::to_string(low) + ", " + std::to_string(high) + "]",
       std::to_string(value), "was the program made for this version?");
}

}  // namespace

Config Config::FromWords(const uint32_t (&words)[kConfigWords]) {
  namespace word = config_word;
  Config c;
  c.log_inp_width = words[word::kLogInpWidth];
  c.log_wgt_width = words[word::kLogWgtWidth];
  c.log_acc_width = words[word::kLogAccWidth];
  c.log_batch = words[word::kLogBatch];
  c.log_block = words[word::kLogBlock];
  c.log_uop_buff_bytes = words[word::kLogUopBuffBytes];
  c.log_inp_buff_bytes = words[word::kLogInpBuffBytes];
  c.log_wgt_buff_bytes = words[word::kLogWgtBuffBytes];
  c.log_acc_buff_bytes = words[word::kLogAccBuffBytes];
  c.bus_bits = words[word::kBusBits];
  const uint32_t capabilities = words[word::kCapabilities];
  c.mul = (capabilities & capability::kMul) != 0;
  c.acc_8bit = (capabilities & capability::kAcc8bit) != 0;
  c.shr_register = (capabilities & capability::kShrRegister) != 0;
  c.clock_hz = words[word::kClockHz];
  c.arena_bytes = words[word::kArenaBytes];
  c.burst_beats = words[word::kBurstBeats];
  CheckRange(word::kLogInpWidth, c.log_inp_width);
  CheckRange(word::kLogWgtWidth, c.log_wgt_width);
  CheckRange(word::kLogAccWidth, c.log_acc_width);
  CheckRange(word::kLogBatch, c.log_batch);
  CheckRange(word::kLogBlock, c.log_block);
  CheckBuffer(word::kLogUopBuffBytes, c.log_uop_buff_bytes, kLogUopBytes);
  CheckBuffer(word::kLogInpBuffBytes, c.log_inp_buff_bytes, c.log_inp_bytes());
  CheckBuffer(word::kLogWgtBuffBytes, c.log_wgt_buff_bytes, c.log_wgt_bytes());
  CheckBuffer(word::kLogAccBuffBytes, c.log_acc_buff_bytes, c.log_acc_bytes());
  CheckRange(word::kCapabilities, capabilities);
  CheckPowerOfTwo(word::kBusBits, c.bus_bits);
  CheckPowerOfTwo(word::kBurstBeats, c.burst_beats);
  return c;
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
  return lanes();  // int8, however wide inp is
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
