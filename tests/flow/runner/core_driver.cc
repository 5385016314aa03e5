// A driver library with the C functions of the original VTA driver, for tests: the functional
// simulator of the core, for the machine of the program file that DRIVER_PROGRAM names. It checks
// what it runs, so that a wrong address or a lost token is an error, which VTADeviceRun prints.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "error.h"
#include "fsim.h"
#include "program.h"

namespace {

struct Block {
  std::unique_ptr<uint8_t[]> bytes;
  size_t size = 0;
  uint64_t address = 0;
};

std::map<void*, Block> blocks;
uint64_t next_address = 0x10000000;
vta::Program program;

Block& At(uint64_t address) {
  for (auto& [memory, block] : blocks) {
    if (address >= block.address && address < block.address + block.size) return block;
  }
  std::fprintf(stderr, "no memory at %llu\n", static_cast<unsigned long long>(address));
  std::abort();
}

}  // namespace

extern "C" {

void* VTADeviceAlloc() {
  std::ifstream file(std::getenv("DRIVER_PROGRAM"), std::ios::binary);
  vta::ParseProgram({std::istreambuf_iterator<char>(file), {}}, &program);
  return &program;
}
void VTADeviceFree(void*) {}

void* VTAMemAlloc(size_t size, int) {
  Block block{std::make_unique<uint8_t[]>(size), size, next_address};
  next_address += (size + 8191) / 4096 * 4096;
  void* const memory = block.bytes.get();
  blocks[memory] = std::move(block);
  return memory;
}
void VTAMemFree(void* memory) { blocks.erase(memory); }
uint32_t VTAMemGetPhyAddr(void* memory) { return static_cast<uint32_t>(blocks.at(memory).address); }
void VTAMemCopyFromHost(void* to, const void* from, size_t size) {
  std::copy_n(static_cast<const uint8_t*>(from), size, static_cast<uint8_t*>(to));
}
void VTAMemCopyToHost(void* to, const void* from, size_t size) {
  VTAMemCopyFromHost(to, from, size);
}
void VTAFlushCache(void*, uint32_t, int) {}
void VTAInvalidateCache(void*, uint32_t, int) {}

int VTADeviceRun(void*, uint32_t insn_address, uint32_t insn_count, uint32_t) {
  const Block& stream = At(insn_address);
  std::vector<std::pair<uint64_t, uint64_t>> segments;
  for (const auto& [memory, block] : blocks) {
    if (&block != &stream) segments.emplace_back(block.address, block.size);
  }
  try {
    vta::FSim sim(program.config, stream.bytes.get(), size_t{insn_count} * vta::kInsnBytes,
                  segments, true, vta::OriginFn(), "", {}, vta::Limits());
    for (const auto& [memory, block] : blocks) {
      if (&block != &stream) sim.Write(block.address, block.bytes.get(), block.size);
    }
    sim.Run(std::nullopt, {});
    for (const auto& [memory, block] : blocks) {
      if (&block == &stream) continue;
      std::copy_n(sim.Read(block.address, block.size), block.size, block.bytes.get());
    }
  } catch (const vta::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}

}  // extern "C"
