#include "target.h"

#include <cstdlib>
#include <cstring>
#include <vector>

#include "engine.h"
#include "error.h"
#include "program.h"
#include "tsim.h"

namespace vta {
namespace {

// Small enough for thousands of programs a second; the checks on the way to them are the same.
constexpr Limits kLimits{uint64_t{1} << 14, uint64_t{1} << 22};

// fsim whose modules run in another order that tokens allow.
class Shuffled : public FSimEngine {
 public:
  using FSimEngine::FSimEngine;
  void Run() override { sim_.Run(7, {}); }
};

void WriteInputs(const Program& program, Engine* engine) {
  for (const TensorInfo& t : program.inputs) {
    if (t.elems() > kLimits.bytes) continue;
    std::vector<int8_t> nchw(t.elems(), 3);
    std::vector<uint8_t> packed(t.packed_bytes(program.config));
    PackTensor(t, program.config, nchw.data(), packed.data(), "input");
    engine->Write(t.address, packed.data(), packed.size());
  }
}

std::vector<uint8_t> Outputs(const Program& program, Engine* engine) {
  std::vector<uint8_t> all;
  for (const TensorInfo& t : program.outputs) {
    std::vector<uint8_t> packed(t.packed_bytes(program.config));
    engine->Read(t.address, packed.data(), packed.size());
    std::vector<uint8_t> nchw(t.elems() * (t.is_int32 ? 4 : 1));
    UnpackTensor(t, program.config, packed.data(), nchw.data());
    all.insert(all.end(), packed.begin(), packed.end());
  }
  return all;
}

}  // namespace

Outcome RunFile(const std::string& file) {
  Program program;
  std::vector<uint8_t> first;
  try {
    ParseProgram(file, &program);
    FSimEngine fsim(program, nullptr, "", kLimits);
    WriteInputs(program, &fsim);
    fsim.Run();
    first = Outputs(program, &fsim);
    fsim.sim().stream().Count(0, SIZE_MAX);
    Shuffled shuffled(program, nullptr, "", kLimits);
    WriteInputs(program, &shuffled);
    shuffled.Run();
    if (Outputs(program, &shuffled) != first) std::abort();
  } catch (const Error&) {
    // Not checked, it may be refused later or run: what stays inside the simulator's memory.
    try {
      if (program.insns.data != nullptr) {
        FSim loose(program.config, program.insns.data, program.insns.size,
                   {{uint64_t{0}, uint64_t{program.config.arena_bytes}}}, false, nullptr, "", {},
                   kLimits);
        loose.Write(program.consts_at, program.consts.data, program.consts.size);
        loose.Run(std::nullopt, {});
      }
    } catch (const Error&) {
    }
    return Outcome::kRefused;
  }
  // What passed all checks gives the same in any order.
  try {
    TSimEngine tsim(program, nullptr, "", kLimits);
    WriteInputs(program, &tsim);
    tsim.Run();
    if (Outputs(program, &tsim) != first) std::abort();
  } catch (const Error&) {
    return Outcome::kRefused;  // the cycle model knows a deadlock or lost token more
  }
  return Outcome::kRan;
}

}  // namespace vta
