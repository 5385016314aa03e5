#include "engine.h"

#include <cstring>
#include <utility>

#include "error.h"

namespace vta {
namespace {

// What the arena holds before a program runs: constants, fills and inputs.
std::vector<Range> Defined(const Program& program) {
  std::vector<Range> defined{{program.consts_at, program.consts_at + program.consts.size}};
  for (const Fill& fill : program.fills) {
    defined.push_back({fill.address, fill.address + fill.size});
  }
  for (const TensorInfo& t : program.inputs) {
    defined.push_back({t.address, t.address + t.packed_bytes(program.config)});
  }
  return defined;
}

}  // namespace

std::vector<std::vector<uint8_t>> Engine::RunTapped(const std::vector<Tap>& taps) {
  (void)taps;
  Fail(ErrorKind::kConfig, "engine", "must be fsim to see the tensors between layers", "",
       "set_engine(\"fsim\", \"\")");
}

void CheckCost(const Program& program, const Limits& limits) {
  const Config& config = program.config;
  CheckMemory(MemoryOf(config.arena_bytes, program.insns.size / kInsnBytes, config), limits);
  CheckSteps(
      StepsOf(Decode(program.insns.data, program.insns.size, config, false, nullptr), config),
      limits);
}

FSimEngine::FSimEngine(const Program& program, OriginFn origin, const std::string& kernels,
                       const Limits& limits)
    : sim_(program.config, program.insns.data, program.insns.size,
           {{uint64_t{0}, uint64_t{program.config.arena_bytes}}}, true, std::move(origin),
           kernels.c_str(), Defined(program), limits) {
  WriteInitial(program, [this](uint64_t address, const uint8_t* bytes, size_t size) {
    sim_.Write(address, bytes, size);
  });
  sim_.Verify();
}

void FSimEngine::Write(uint64_t address, const uint8_t* bytes, size_t size) {
  sim_.Write(address, bytes, size);
}

void FSimEngine::Read(uint64_t address, uint8_t* bytes, size_t size) {
  const uint8_t* from = sim_.Read(address, size);
  if (size != 0) std::memcpy(bytes, from, size);
}

void FSimEngine::Run() { sim_.Run(std::nullopt, {}); }

std::vector<std::vector<uint8_t>> FSimEngine::RunTapped(const std::vector<Tap>& taps) {
  return sim_.Run(std::nullopt, taps);
}

void DriverEngine::Write(uint64_t address, const uint8_t* bytes, size_t size) {
  driver_.Write(address, bytes, size);
}

void DriverEngine::Read(uint64_t address, uint8_t* bytes, size_t size) {
  driver_.Read(address, bytes, size);
}

void DriverEngine::Run() { driver_.Run(); }

}  // namespace vta
