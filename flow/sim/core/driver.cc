#include "driver.h"

#include <dlfcn.h>

#include <algorithm>

#include "decode.h"
#include "error.h"

namespace vta {
namespace {

// What the original runtime waits for: longer than any program takes.
constexpr uint32_t kWaitCycles = uint32_t{1} << 31;

template <typename Function>
void Resolve(void* handle, const char* name, const std::string& library, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(handle, name));
  if (*function == nullptr) {
    Fail(ErrorKind::kArtifact, library, std::string("must have the driver function ") + name,
         "none", "is it a VTA driver?");
  }
}

uint64_t Alignment(const Config& config) {
  return std::max<uint64_t>({kPageBytes, config.wgt_bytes(), config.acc_bytes()});
}

}  // namespace

std::string Relocate(Bytes insns, const Config& config, uint64_t arena_address) {
  std::string moved(reinterpret_cast<const char*>(insns.data), insns.size);
  const std::vector<Insn> decoded = Decode(insns.data, insns.size, config, false, nullptr);
  // dram_base lies at the same bits in every configuration: the fields before it have fixed widths.
  int lsb = 0;
  for (int i = 0; i < mem::kDramBase; ++i) lsb += mem::kFields[i].plus;
  for (size_t i = 0; i < decoded.size(); ++i) {
    const Insn& insn = decoded[i];
    if (!insn.is_mem() || insn.is_nop()) continue;
    const uint64_t bytes = config.dram_bytes(insn.memory);
    // Two 32-bit byte addresses in elements of at least 2 bytes: no overflow.
    const uint64_t base = insn.dram_base + arena_address / bytes;
    uint64_t word = 0;
    char* at = &moved[i * kInsnBytes];
    for (int b = 7; b >= 0; --b) word = word << 8 | static_cast<uint8_t>(at[b]);
    word = (word & ~(uint64_t{0xffffffff} << lsb)) | base << lsb;
    for (int b = 0; b < 8; ++b) at[b] = static_cast<char>(word >> (8 * b));
  }
  return moved;
}

Driver::Driver(const std::string& library) : library_(library) {
  handle_ = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) {
    const char* reason = dlerror();
    Fail(ErrorKind::kArtifact, library, "must be a loadable shared library",
         reason == nullptr ? "" : reason, "pass the path of a VTA driver");
  }
  try {
    Resolve(handle_, "VTADeviceAlloc", library, &api_.device_alloc);
    Resolve(handle_, "VTADeviceFree", library, &api_.device_free);
    Resolve(handle_, "VTADeviceRun", library, &api_.device_run);
    Resolve(handle_, "VTAMemAlloc", library, &api_.mem_alloc);
    Resolve(handle_, "VTAMemFree", library, &api_.mem_free);
    Resolve(handle_, "VTAMemGetPhyAddr", library, &api_.mem_address);
    Resolve(handle_, "VTAMemCopyFromHost", library, &api_.copy_from_host);
    Resolve(handle_, "VTAMemCopyToHost", library, &api_.copy_to_host);
    Resolve(handle_, "VTAFlushCache", library, &api_.flush_cache);
    Resolve(handle_, "VTAInvalidateCache", library, &api_.invalidate_cache);
    device_ = api_.device_alloc();
    if (device_ == nullptr) {
      Fail(ErrorKind::kDriver, library_, "must have a device", "none from VTADeviceAlloc",
           "is it there, and free?");
    }
    void* page = Allocate(kPageBytes, "a page");
    const uint64_t address = api_.mem_address(page);
    api_.mem_free(page);
    CheckPage(address);
  } catch (...) {
    Free();
    throw;
  }
}

void Driver::CheckPage(uint64_t address) const {
  if (address % kPageBytes != 0) {
    Fail(ErrorKind::kCapacity, library_, "must give memory that starts a page of 4096 bytes",
         std::to_string(address));
  }
}

void Driver::Place(const Program& program) {
  arena_bytes_ = program.config.arena_bytes;
  // Drivers align to pages; a larger element needs room to move the arena.
  const uint64_t align = Alignment(program.config);
  const uint64_t slack = align > kPageBytes ? align : 0;
  arena_ = Allocate(arena_bytes_ + slack, "the arena");
  const uint64_t address = api_.mem_address(arena_);
  CheckPage(address);
  arena_offset_ = (align - address % align) % align;
  insns_ = Allocate(std::max<size_t>(program.insns.size, 1), "the instructions");
  const std::string insns = Relocate(program.insns, program.config, address + arena_offset_);
  insn_count_ = static_cast<uint32_t>(insns.size() / kInsnBytes);
  api_.copy_from_host(insns_, insns.data(), insns.size());
  api_.flush_cache(insns_, api_.mem_address(insns_), static_cast<int>(insns.size()));
  WriteInitial(program, [this](uint64_t address, const uint8_t* bytes, size_t size) {
    Write(address, bytes, size);
  });
}

Driver::~Driver() { Free(); }

void Driver::Free() {
  if (insns_ != nullptr) api_.mem_free(insns_);
  if (arena_ != nullptr) api_.mem_free(arena_);
  if (device_ != nullptr) api_.device_free(device_);
  // The library stays loaded: drivers keep global state whose destructors may run at exit.
  insns_ = arena_ = device_ = nullptr;
}

void* Driver::Allocate(size_t bytes, const char* what) {
  void* buffer = api_.mem_alloc(bytes, 0);
  if (buffer == nullptr) {
    Fail(ErrorKind::kCapacity, library_,
         std::string("must have memory for ") + what + " of " + std::to_string(bytes) + " bytes",
         "none");
  }
  return buffer;
}

void Driver::Write(uint64_t address, const uint8_t* bytes, size_t size) {
  if (size == 0) return;
  uint8_t* to = static_cast<uint8_t*>(arena_) + arena_offset_ + address;
  api_.copy_from_host(to, bytes, size);
}

void Driver::Read(uint64_t address, uint8_t* bytes, size_t size) {
  if (size == 0) return;
  api_.copy_to_host(bytes, static_cast<uint8_t*>(arena_) + arena_offset_ + address, size);
}

void Driver::Run() {
  const uint32_t address = api_.mem_address(arena_);
  const int bytes = static_cast<int>(arena_offset_ + arena_bytes_);
  api_.flush_cache(arena_, address, bytes);
  const int failed = api_.device_run(device_, api_.mem_address(insns_), insn_count_, kWaitCycles);
  if (failed != 0) {
    Fail(ErrorKind::kDriver, library_, "must finish the program",
         "status " + std::to_string(failed) + " of VTADeviceRun",
         "the device waited too long; nothing more is run on it");
  }
  api_.invalidate_cache(arena_, address, bytes);
}

}  // namespace vta
