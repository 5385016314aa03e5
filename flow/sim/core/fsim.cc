#include "fsim.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "error.h"

namespace vta {
namespace {

// A snapshot, the bytes that its reader gets, and the tensor that it makes of them.
constexpr uint64_t kCopiesOfTap = 3;

const Kernels& Choose(const char* name, const Config& config) {
  const Kernels* kernels = ChooseKernels(name, config.block());
  if (kernels == nullptr) {
    Fail(ErrorKind::kConfig, "kernels", "must be ones that this processor and block can use", name,
         "leave the name out");
  }
  return *kernels;
}

// Returns `segments` once their memory is known to be allowed.
std::vector<std::pair<uint64_t, uint64_t>> Allowed(
    std::vector<std::pair<uint64_t, uint64_t>> segments, size_t insn_bytes, const Config& config,
    const Limits& limits) {
  uint64_t total = 0;
  for (const auto& segment : segments) total = SaturatingAdd(total, segment.second);
  CheckMemory(MemoryOf(total, insn_bytes / kInsnBytes, config), limits);
  return segments;
}

uint64_t Left(const Limits& limits, const Cost& cost) {
  return limits.bytes - std::min(limits.bytes, cost.bytes);
}

}  // namespace

FSim::FSim(const Config& config, const uint8_t* insns, size_t size,
           std::vector<std::pair<uint64_t, uint64_t>> segments, bool strict, OriginFn origin,
           const char* kernels, std::vector<Range> defined, const Limits& limits)
    : dram_(Allowed(std::move(segments), size, config, limits)),
      kernels_(Choose(kernels, config)),
      defined_(std::move(defined)),
      stream_(config, kernels_, insns, size, dram_, strict, std::move(origin), limits),
      machine_(config, kernels_, stream_.insns(), Left(limits, stream_.cost())) {}

void FSim::Write(uint64_t address, const uint8_t* bytes, uint64_t size) {
  uint8_t* to = dram_.At(address, size, "write");
  const bool changed = size != 0 && std::memcmp(to, bytes, size) != 0;
  if (changed && stream_.ReadsUops(address, address + size)) stream_.Unbind();
  if (changed && machine_.weights().IsConstant(address, address + size)) {
    machine_.weights().Forget();
    tape_ = nullptr;
  }
  if (size != 0) std::memcpy(to, bytes, size);
}

const uint8_t* FSim::Read(uint64_t address, uint64_t size) const {
  return dram_.At(address, size, "read");
}

void FSim::Verify() {
  if (stream_.bound()) return;
  tape_ = nullptr;
  no_tape_ = false;
  stream_.Bind(dram_, defined_);
}

std::vector<std::vector<uint8_t>> FSim::Run(std::optional<uint64_t> seed,
                                            const std::vector<Tap>& taps) {
  if (!seed) return RunOrder(stream_.schedule().order, taps);
  Verify();
  // An order that runs once is not worth preparing.
  return RunSteps(RandomOrder(stream_.insns(), *seed), nullptr, taps);
}

std::vector<std::vector<uint8_t>> FSim::RunOrder(const std::vector<uint32_t>& order,
                                                 const std::vector<Tap>& taps) {
  Verify();
  return RunSteps(order, TapeOf(order), taps);
}

const Tape* FSim::TapeOf(const std::vector<uint32_t>& order) {
  machine_.weights().Pack(dram_);
  if (no_tape_) return nullptr;
  if (tape_ == nullptr || tape_->order() != order) {
    const uint64_t left = Left(stream_.limits(), stream_.cost());
    const uint64_t packed = machine_.weights().constant_bytes();
    tape_ = Tape::Make(stream_, order, &machine_, left - std::min(left, packed));
    no_tape_ = tape_ == nullptr;
  }
  return tape_.get();
}

template <typename After>
void FSim::RunSteps(const std::vector<uint32_t>& order, const Tape* tape, After after) {
  const KernelsInUse in_use(kernels_);
  for (size_t n = 0, step = 0; n < order.size(); ++n) {
    if (tape == nullptr) {
      const uint32_t index = order[n];
      machine_.Execute(stream_.insns()[index], stream_.dram(index), stream_.nests()[index]);
    } else {
      for (; step < tape->done(n); ++step) {
        const Tape::Step& s = tape->steps()[step];
        if (s.kind == Tape::Step::kGemm) {
          machine_.Execute(tape->gemm(s.index));
        } else if (s.kind == Tape::Step::kClear) {
          machine_.Clear(s.index, s.count);
        } else if (s.kind == Tape::Step::kPlaces) {
          machine_.weights().SetPlaces(tape->places());
        } else {
          machine_.Execute(stream_.insns()[s.index], stream_.dram(s.index),
                           stream_.nests()[s.index]);
        }
      }
    }
    after(n);
  }
}

std::vector<std::vector<uint8_t>> FSim::RunSteps(const std::vector<uint32_t>& order,
                                                 const Tape* tape, const std::vector<Tap>& taps) {
  const std::vector<Insn>& insns = stream_.insns();
  Budget memory(stream_.limits(), stream_.cost().bytes);
  std::vector<size_t> by_insn(taps.size());
  for (size_t t = 0; t < taps.size(); ++t) {
    if (taps[t].insn >= insns.size()) {
      Fail(ErrorKind::kCapacity, "tap.insn",
           "must be below " + std::to_string(insns.size()) + " instructions",
           std::to_string(taps[t].insn));
    }
    dram_.At(taps[t].address, taps[t].bytes, "tap.address");
    memory.Take(SaturatingMul(taps[t].bytes, kCopiesOfTap));
    by_insn[t] = t;
  }
  std::sort(by_insn.begin(), by_insn.end(),
            [&](size_t a, size_t b) { return taps[a].insn < taps[b].insn; });
  std::vector<std::vector<uint8_t>> snapshots(taps.size());
  RunSteps(order, tape, [&](size_t n) {
    if (taps.empty()) return;
    auto tap = std::lower_bound(by_insn.begin(), by_insn.end(), order[n],
                                [&](size_t t, uint32_t i) { return taps[t].insn < i; });
    for (; tap != by_insn.end() && taps[*tap].insn == order[n]; ++tap) {
      const uint8_t* from = dram_.Find(taps[*tap].address, taps[*tap].bytes);
      snapshots[*tap].assign(from, from + taps[*tap].bytes);
    }
  });
  return snapshots;
}

}  // namespace vta
