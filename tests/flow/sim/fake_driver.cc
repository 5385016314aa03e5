// A driver library with the C functions of the original VTA driver, for tests: a small and slow VTA
// of its own for the default machine, which runs instructions in order and ignores tokens. What
// FAKE_DRIVER names goes wrong: in VTADeviceRun, where FAKE_DRIVER_AT says in which run (1: the
// first), or, with "open-" before it, in VTADeviceAlloc; with "nothing" no instruction is run.
// FAKE_DRIVER_LOG is a file that gets a line a call.
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr uint32_t kBlock = 16;
std::map<uint32_t, std::vector<uint8_t>*> memory;  // by physical address
std::map<void*, uint32_t> address_of;
uint32_t next_address = 0x5000;

uint8_t* At(uint64_t address) {
  auto it = --memory.upper_bound(static_cast<uint32_t>(address));
  return it->second->data() + (address - it->first);
}

struct Vta {
  int8_t inp[2048][kBlock], wgt[1024][kBlock][kBlock];
  int32_t acc[2048][kBlock];
  uint32_t uop[8192];
};
Vta vta;

uint64_t Bits(uint64_t word, int lsb, int bits) {
  return word >> lsb & ((uint64_t{1} << bits) - 1);
}

void Mem(uint64_t w0, uint64_t w1, bool store) {
  const uint64_t type = Bits(w0, 7, 3), sram = Bits(w0, 10, 16), dram = Bits(w0, 26, 32);
  const uint64_t y = Bits(w1, 0, 16), x = Bits(w1, 16, 16), stride = Bits(w1, 32, 16);
  const uint64_t top = Bits(w1, 48, 4), bottom = Bits(w1, 52, 4);
  const uint64_t left = Bits(w1, 56, 4), right = Bits(w1, 60, 4), width = left + x + right;
  for (uint64_t r = 0; x != 0 && r < top + y + bottom; ++r) {
    for (uint64_t c = 0; c < width; ++c) {
      const bool inside = r >= top && r < top + y && c >= left && c < left + x;
      const uint64_t from = dram + (r - top) * stride + (c - left), to = sram + r * width + c;
      if (store) {
        for (uint32_t l = 0; l < kBlock; ++l)
          At(from * 16)[l] = static_cast<uint8_t>(vta.acc[to][l]);
      } else if (type == 0) {
        std::memcpy(&vta.uop[to], At(from * 4), 4);
      } else if (type == 1) {
        std::memcpy(vta.wgt[to], At(from * 256), 256);
      } else if (type == 2) {
        std::memset(vta.inp[to], 0, 16);
        if (inside) std::memcpy(vta.inp[to], At(from * 16), 16);
      } else {
        std::memset(vta.acc[to], 0, 64);
        if (inside) std::memcpy(vta.acc[to], At(from * 64), 64);
      }
    }
  }
}

void Nest(uint64_t w0, uint64_t w1, bool gemm) {
  const bool reset = Bits(w0, 7, 1) != 0;
  for (uint64_t o = 0; o < Bits(w0, 35, 14); ++o) {
    for (uint64_t i = 0; i < Bits(w0, 49, 14); ++i) {
      for (uint64_t u = Bits(w0, 8, 13); u < Bits(w0, 21, 14); ++u) {
        const uint32_t word = vta.uop[u];
        const uint64_t d = Bits(word, 0, 11) + o * Bits(w1, 0, 11) + i * Bits(w1, 11, 11);
        const uint64_t s = Bits(word, 11, 11) + o * Bits(w1, 22, 11) + i * Bits(w1, 33, 11);
        const uint64_t k = Bits(word, 22, 10) + o * Bits(w1, 44, 10) + i * Bits(w1, 54, 10);
        const int32_t imm = static_cast<int16_t>(Bits(w1, 48, 16));
        for (uint32_t a = 0; a < kBlock; ++a) {
          int32_t& lane = vta.acc[d][a];
          if (gemm) {
            for (uint32_t b = 0; !reset && b < kBlock; ++b)
              lane += vta.inp[s][b] * vta.wgt[k][a][b];
            if (reset) lane = 0;
            continue;
          }
          const int32_t other = Bits(w1, 47, 1) != 0 ? imm : vta.acc[s][a];
          const uint64_t op = Bits(w1, 44, 3);
          if (op == 0) lane = lane < other ? lane : other;
          if (op == 1) lane = lane > other ? lane : other;
          if (op == 2) lane += other;
          if (op == 3) lane >>= other;
        }
      }
    }
  }
}

std::string Setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void Log(const char* call) {
  const std::string path = Setting("FAKE_DRIVER_LOG");
  if (path.empty()) return;
  std::FILE* file = std::fopen(path.c_str(), "a");
  std::fprintf(file, "%s %d\n", call, static_cast<int>(getpid()));
  std::fclose(file);
}

// Does what FAKE_DRIVER asks for at this place; returns whether the call fails as C functions do.
bool GoWrong(const std::string& place) {
  const std::string mode = Setting("FAKE_DRIVER");
  if (mode == place + "status") return true;
  if (mode == place + "throw") throw std::runtime_error("no clock");
  if (mode == place + "throw-int") throw 5;
  if (mode == place + "crash") std::raise(SIGSEGV);
  if (mode == place + "abort") std::abort();
  if (mode == place + "exit") std::exit(7);
  if (mode == place + "print") std::printf("printed by the driver\n");
  while (mode == place + "hang") pause();
  return false;
}

int runs = 0;

}  // namespace

extern "C" {

void* VTADeviceAlloc() {
  Log("alloc");
  return GoWrong("open-") ? nullptr : &vta;
}
void VTADeviceFree(void*) { Log("free"); }

void* VTAMemAlloc(size_t size, int) {
  const std::string most = Setting("FAKE_DRIVER_MEMORY");  // bytes of one allocation
  if (!most.empty() && size > std::stoul(most)) return nullptr;
  auto* block = new std::vector<uint8_t>(size, 0xa5);
  const uint32_t address =
      next_address + (std::getenv("FAKE_DRIVER_MISALIGNED") != nullptr ? 8 : 0);
  memory[address] = block;
  address_of[block->data()] = address;
  next_address += (static_cast<uint32_t>(size) + 8191) / 4096 * 4096;
  return block->data();
}
void VTAMemFree(void* buffer) {
  auto it = memory.find(address_of[buffer]);
  delete it->second;
  memory.erase(it);
  address_of.erase(buffer);
}
uint32_t VTAMemGetPhyAddr(void* buffer) { return address_of[buffer]; }
void VTAMemCopyFromHost(void* to, const void* from, size_t size) { std::memcpy(to, from, size); }
void VTAMemCopyToHost(void* to, const void* from, size_t size) { std::memcpy(to, from, size); }
void VTAFlushCache(void*, uint32_t, int) {}
void VTAInvalidateCache(void*, uint32_t, int) {}

int VTADeviceRun(void*, uint32_t insn_address, uint32_t insn_count, uint32_t) {
  Log("run");
  if (Setting("FAKE_DRIVER") == "nothing") return 0;
  const std::string at = Setting("FAKE_DRIVER_AT");
  if ((at.empty() || std::stoi(at) == ++runs) && GoWrong("")) return 1;
  for (uint32_t i = 0; i < insn_count; ++i) {
    uint64_t w[2];
    std::memcpy(w, At(insn_address + 16 * i), 16);
    const uint64_t opcode = w[0] & 7;
    if (opcode == 3) return 0;
    if (opcode <= 1) Mem(w[0], w[1], opcode == 1);
    if (opcode == 2 || opcode == 4) Nest(w[0], w[1], opcode == 2);
  }
  return 1;
}

}  // extern "C"
