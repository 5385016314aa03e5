// What flow's process and the process of a driver library tell each other, over a stream socket: a
// request and its bytes, then a reply and its bytes. Both run on one machine and come from one
// build.
#ifndef FLOW_SIM_CORE_DRIVER_PROTOCOL_H_
#define FLOW_SIM_CORE_DRIVER_PROTOCOL_H_

#include <cstdint>

namespace vta {

// The descriptor of the socket in the driver's process.
inline constexpr int kDriverSocket = 3;

enum class DriverCommand : uint32_t {
  kOpen,     // bytes: the library's path
  kProgram,  // bytes: a program file
  kWrite,    // bytes: what goes to `address` of the arena
  kRead,     // the reply has `size` bytes of the arena from `address`
  kRun,
  kClose,  // ends the process
};

struct DriverRequest {
  DriverCommand command = DriverCommand::kClose;
  uint32_t reserved = 0;
  uint64_t address = 0;
  uint64_t size = 0;  // of the bytes that follow; of kRead, of those that are asked for
};

struct DriverReply {
  uint32_t error = 0;  // 0, or 1 and an ErrorKind: then the bytes are its sentence
  uint32_t reserved = 0;
  uint64_t size = 0;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_DRIVER_PROTOCOL_H_
