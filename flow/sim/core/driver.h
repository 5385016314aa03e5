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

// A device of a driver library, in the process that loads the library.
class Driver {
 public:
  // Loads the library, opens a device and tries a page of its memory. Throws ArtifactError when the
  // library cannot be loaded or lacks a function, DriverError when it has no device, CapacityError
  // when its memory cannot be used.
  explicit Driver(const std::string& library);
  ~Driver();
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  // Puts instructions and constants into the device's memory, once. Throws CapacityError when it
  // has not enough.
  void Place(const Program& program);
  // Copies bytes to or from an address of the arena.
  void Write(uint64_t address, const uint8_t* bytes, size_t size);
  void Read(uint64_t address, uint8_t* bytes, size_t size);
  // Runs the program once. Throws DriverError when the device does not finish in time.
  void Run();

 private:
  void* Allocate(size_t bytes, const char* what);
  // Throws CapacityError when a physical address does not start a page.
  void CheckPage(uint64_t address) const;
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
