// The functional simulator: runs a checked stream, one instruction at a time.
#ifndef FLOW_SIM_CORE_FSIM_H_
#define FLOW_SIM_CORE_FSIM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "dram.h"
#include "machine.h"
#include "stream.h"
#include "tape.h"

namespace vta {

// A snapshot of DRAM bytes right after instruction `insn`.
struct Tap {
  uint32_t insn;
  uint64_t address;
  uint64_t bytes;
};

class FSim {
 public:
  // Checks the stream as far as memory contents do not matter (Stream). `kernels` as ChooseKernels;
  // throws ConfigError when this processor does not have them. `defined` as Stream::Bind. Throws
  // CapacityError, before it allocates anything, when more is needed than `limits` allow.
  FSim(const Config& config, const uint8_t* insns, size_t size,
       std::vector<std::pair<uint64_t, uint64_t>> segments, bool strict, OriginFn origin,
       const char* kernels = "", std::vector<Range> defined = {}, const Limits& limits = Limits());

  // Throws CapacityError when the bytes do not lie inside one segment.
  void Write(uint64_t address, const uint8_t* bytes, uint64_t size);
  const uint8_t* Read(uint64_t address, uint64_t size) const;

  // Reads the micro-ops and checks what depends on them; Run does this by itself when needed.
  void Verify();
  // Runs in stream order, or with `seed` in a random token-legal order. Returns one snapshot a tap;
  // throws CapacityError when they take more memory than the limits leave.
  std::vector<std::vector<uint8_t>> Run(std::optional<uint64_t> seed, const std::vector<Tap>& taps);
  // Runs in `order`, which must be token-legal. What is prepared for an order is kept until another
  // one runs.
  std::vector<std::vector<uint8_t>> RunOrder(const std::vector<uint32_t>& order,
                                             const std::vector<Tap>& taps);

  const Stream& stream() const { return stream_; }
  const Dram& dram() const { return dram_; }
  Machine& machine() { return machine_; }

 private:
  // Runs in `order`, one instruction after the other where `tape` is null; calls after(n) when DRAM
  // is as after the first n + 1 instructions.
  template <typename After>
  void RunSteps(const std::vector<uint32_t>& order, const Tape* tape, After after);
  std::vector<std::vector<uint8_t>> RunSteps(const std::vector<uint32_t>& order, const Tape* tape,
                                             const std::vector<Tap>& taps);
  // Prepares `order`; returns null where that takes more memory than the limits leave.
  const Tape* TapeOf(const std::vector<uint32_t>& order);

  Dram dram_;
  const Kernels& kernels_;
  std::vector<Range> defined_;
  Stream stream_;
  Machine machine_;
  std::unique_ptr<Tape> tape_;
  bool no_tape_ = false;  // it takes too much memory
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_FSIM_H_
