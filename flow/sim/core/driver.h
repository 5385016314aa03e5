// Runs a program on any shared library with the C functions of the original VTA driver
// (vta/driver.h of apache/tvm-vta): the original simulators and the FPGA drivers.
#ifndef FLOW_SIM_CORE_DRIVER_H_
#define FLOW_SIM_CORE_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "program.h"

namespace vta {

// The functions of one driver library. Physical addresses have 32 bits, as in the default build of
// the original.
struct DriverApi {
  void* (*device_alloc)() = nullptr;
  void (*device_free)(void* device) = nullptr;
  int (*device_run)(void* device, uint32_t insn_address, uint32_t insn_count,
                    uint32_t wait_cycles) = nullptr;
  void* (*mem_alloc)(size_t size, int cached) = nullptr;
  void (*mem_free)(void* buffer) = nullptr;
  uint32_t (*mem_address)(void* buffer) = nullptr;
  void (*copy_from_host)(void* to, const void* from, size_t size) = nullptr;
  void (*copy_to_host)(void* to, const void* from, size_t size) = nullptr;
  void (*flush_cache)(void* buffer, uint32_t address, int size) = nullptr;
  void (*invalidate_cache)(void* buffer, uint32_t address, int size) = nullptr;
};

// Adds `arena_address` to the DRAM address of every LOAD and STORE that has one. Throws
// CapacityError when the address is not a multiple of an element's bytes.
std::string Relocate(Bytes insns, const Config& config, uint64_t arena_address);

class Driver {
 public:
  // Loads the library and puts program and constants into the device's memory. Throws ArtifactError
  // when the library cannot be loaded or lacks a function, CapacityError when the device has no
  // memory left.
  Driver(const std::string& library, const Program& program);
  ~Driver();
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  // Copies bytes to or from an address of the arena.
  void Write(uint64_t address, const uint8_t* bytes, size_t size);
  void Read(uint64_t address, uint8_t* bytes, size_t size);
  // Runs the program once. Throws DeadlockError when the device does not finish in time.
  void Run();

 private:
  void* Allocate(size_t bytes, const char* what);
  void Free();

  std::string library_;
  void* handle_ = nullptr;
  DriverApi api_;
  void* device_ = nullptr;
  void* arena_ = nullptr;
  void* insns_ = nullptr;
  uint64_t arena_offset_ = 0;  // of the aligned arena in its buffer
  uint64_t arena_bytes_ = 0;
  uint32_t insn_count_ = 0;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_DRIVER_H_
