// What runs a program: an arena to write and read, and a way to run.
#ifndef FLOW_SIM_CORE_ENGINE_H_
#define FLOW_SIM_CORE_ENGINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "driver_process.h"
#include "fsim.h"
#include "program.h"

namespace vta {

class Engine {
 public:
  virtual ~Engine() = default;
  virtual void Write(uint64_t address, const uint8_t* bytes, size_t size) = 0;
  virtual void Read(uint64_t address, uint8_t* bytes, size_t size) = 0;
  virtual void Run() = 0;
  // Runs and returns one snapshot a tap. Throws ConfigError where the engine cannot.
  virtual std::vector<std::vector<uint8_t>> RunTapped(const std::vector<Tap>& taps);
};

// Throws CostError when decoding, checking or running `program` costs more than `limits` allow.
void CheckCost(const Program& program, const Limits& limits);

// The functional simulator; checks the program when it is made.
class FSimEngine : public Engine {
 public:
  FSimEngine(const Program& program, OriginFn origin, const std::string& kernels,
             const Limits& limits = Limits());
  void Write(uint64_t address, const uint8_t* bytes, size_t size) override;
  void Read(uint64_t address, uint8_t* bytes, size_t size) override;
  void Run() override;
  std::vector<std::vector<uint8_t>> RunTapped(const std::vector<Tap>& taps) override;
  const FSim& sim() const { return sim_; }

 protected:
  FSim sim_;
};

// A library with the original driver functions, in a process of its own.
class DriverEngine : public Engine {
 public:
  DriverEngine(const Program& program, const std::string& library, DriverOptions options)
      : driver_(library, std::move(options)) {
    driver_.Place(program);
  }
  void Write(uint64_t address, const uint8_t* bytes, size_t size) override;
  void Read(uint64_t address, uint8_t* bytes, size_t size) override;
  void Run() override;

 private:
  DriverProcess driver_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_ENGINE_H_
