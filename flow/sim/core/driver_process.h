// A driver library in a process of its own: what it throws, where it crashes or hangs, and what it
// does to its process ends that process, and is an error here.
#ifndef FLOW_SIM_CORE_DRIVER_PROCESS_H_
#define FLOW_SIM_CORE_DRIVER_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "driver_protocol.h"
#include "error.h"
#include "program.h"

namespace vta {

struct DriverOptions {
  double timeout_s = 0;  // of one call; 0: none
  // Called now and then while the library works; may throw, which ends the driver's process.
  std::function<void()> poll;
};

class DriverProcess {
 public:
  // Starts the process and lets it load `library`, open a device and try a page of its memory.
  // Throws ArtifactError when the library is no VTA driver, CapacityError when its memory cannot be
  // used, DriverError when anything else fails.
  DriverProcess(const std::string& library, DriverOptions options);
  ~DriverProcess();
  DriverProcess(const DriverProcess&) = delete;
  DriverProcess& operator=(const DriverProcess&) = delete;

  // Puts instructions and constants into the device's memory. Throws as the constructor.
  void Place(const Program& program);
  // Copies bytes to or from an address of the arena, or runs the program once. Throw DriverError;
  // after a failure nothing more reaches the library, and each call throws the same again.
  void Write(uint64_t address, const uint8_t* bytes, size_t size);
  void Read(uint64_t address, uint8_t* bytes, size_t size);
  void Run();

 private:
  using Clock = std::chrono::steady_clock;

  void Start();
  // Sends a request and waits for its reply; `must` is what the library has to do.
  std::vector<uint8_t> Call(const DriverRequest& request, const uint8_t* bytes, const char* must);
  // Transfer all bytes. Return false when the other side is gone.
  bool Send(const void* bytes, size_t size);
  bool Receive(void* bytes, size_t size);
  // Waits until the socket is ready for `events`, or throws.
  void Wait(short events);
  [[noreturn]] void Break(const std::string& got, const std::string& hint);
  // Ends the process and returns how it ended, as wait status; none when that is not known.
  std::optional<int> End(bool kill_it);

  std::string library_;
  DriverOptions options_;
  pid_t pid_ = -1;
  int socket_ = -1;
  std::optional<Clock::time_point> deadline_;
  const char* must_ = "";
  std::optional<Error> broken_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_DRIVER_PROCESS_H_
