// Runs a compiled VTA program (.vta) on a board, by the C functions of the original VTA driver
// (vta/driver.h of apache/tvm-vta). Needs neither Python nor TVM: this file, the one beside it and
// a C++17 compiler.
//
//   vta_run --driver libvta.so program.vta --input x.bin --output y.bin [--scales scales.txt]
//
// `vta_run --help` lists the options. A program file may come from anywhere: everything in it is
// checked before the device sees it, and a bad one gives one sentence and exit code 2.
// docs/program.md describes the file, docs/artefacts.md how to use this program.
#include <dlfcn.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <string>
#include <vector>

#include "vta_program.h"

namespace vta_run {
namespace {

constexpr char kHelp[] =
    R"(usage: vta_run --driver LIBRARY PROGRAM.vta --input FILE... --output FILE... [options]
       vta_run --info PROGRAM.vta

Run a VTA program by a driver library: the FPGA drivers of Pynq and DE10, or a simulator.

  --driver LIBRARY   shared library with the functions of the original VTA driver
  --input FILE       numbers of an input: int8, NCHW; one option for each input, in order
  --output FILE      where to write an output: int8 or int32, NCHW; one for each, in order
  --scales FILE      scales.txt of the artefact: inputs and outputs are float32 instead
  --packed           inputs and outputs are bytes as they lie in the memory of the device
  --repeat N         run N times and tell how long a run takes (default: 1)
  --info             show the machine, the inputs and the outputs of the program

Files hold numbers in the order of the processor, without a header (numpy: array.tofile).
Exit codes: 0 success; 2 bad input, or a driver that failed.
)";

// ---- scales ------------------------------------------------------------------------------------
struct InputScale {
  float multiplier = 0;
  int zero_point = 0, qmin = -128, qmax = 127;
};

struct OutputScale {
  int zero_point = 0;
  std::vector<float> scale;
};

struct Scales {
  std::map<uint64_t, InputScale> inputs;
  std::map<uint64_t, OutputScale> outputs;
};

std::vector<std::string> Words(const std::string& line) {
  std::vector<std::string> words;
  size_t at = 0;
  while ((at = line.find_first_not_of(" \t\r", at)) != std::string::npos) {
    const size_t end = std::min(line.find_first_of(" \t\r", at), line.size());
    words.push_back(line.substr(at, end - at));
    at = end;
  }
  return words;
}

float ToFloat(const std::string& word, const std::string& where) {
  char* end = nullptr;
  const float number = std::strtof(word.c_str(), &end);
  if (end == word.c_str() || *end != '\0' || !std::isfinite(number)) {
    Fail(where, "must have finite numbers", word.substr(0, 40));
  }
  return number;
}

int ToInteger(const std::string& word, const std::string& where, long low, long high) {
  char* end = nullptr;
  errno = 0;
  const long number = std::strtol(word.c_str(), &end, 10);
  if (end == word.c_str() || *end != '\0' || errno != 0 || number < low || number > high) {
    Fail(where, "must have integers in [" + std::to_string(low) + ", " + std::to_string(high) + "]",
         word.substr(0, 40));
  }
  return static_cast<int>(number);
}

// Lines "input POSITION MULTIPLIER ZERO_POINT QMIN QMAX" and "output POSITION ZERO_POINT SCALE...".
Scales ReadScales(const std::string& path, const Program& program) {
  constexpr long kMost = 2147483647L;
  const std::vector<uint8_t> bytes = ReadFile(path);
  const std::string text(bytes.begin(), bytes.end());
  Scales scales;
  size_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::vector<std::string> words = Words(text.substr(at, end - at));
    const std::string where = path + " line " + std::to_string(++number);
    at = end + 1;
    if (words.empty() || words[0][0] == '#') continue;
    const bool is_input = words[0] == "input" && words.size() == 6;
    if (!is_input && (words[0] != "output" || words.size() < 4)) {
      Fail(where, "must be an input with 5 numbers, or an output with at least 3", words[0]);
    }
    const size_t count = is_input ? program.inputs.size() : program.outputs.size();
    if (count == 0) Fail(where, "must be of a tensor of the program", words[0]);
    const int position = ToInteger(words[1], where, 0, static_cast<long>(count) - 1);
    if (is_input) {
      InputScale& input = scales.inputs[static_cast<uint64_t>(position)];
      input.multiplier = ToFloat(words[2], where);
      input.zero_point = ToInteger(words[3], where, -128, 127);
      input.qmin = ToInteger(words[4], where, -128, 127);
      input.qmax = ToInteger(words[5], where, input.qmin, 127);
      continue;
    }
    OutputScale& output = scales.outputs[static_cast<uint64_t>(position)];
    output.zero_point = ToInteger(words[2], where, -kMost, kMost);
    output.scale.clear();
    for (size_t i = 3; i < words.size(); ++i) output.scale.push_back(ToFloat(words[i], where));
    const uint64_t channels = program.outputs[static_cast<size_t>(position)].c;
    if (output.scale.size() != 1 && output.scale.size() != channels) {
      Fail(where,
           "must have one scale, or one for each of " + std::to_string(channels) + " channels",
           std::to_string(output.scale.size()));
    }
  }
  if (scales.inputs.size() != program.inputs.size() ||
      scales.outputs.size() != program.outputs.size()) {
    Fail(path, "must have a line for each input and output of the program",
         std::to_string(scales.inputs.size()) + " inputs and " +
             std::to_string(scales.outputs.size()) + " outputs");
  }
  return scales;
}

// clip(floor(x * multiplier + 0.5) + zero_point, qmin, qmax), each step rounded to float32:
// volatile keeps a compiler from joining the product and the sum, which rounds once.
int8_t Quantized(float x, const InputScale& by, const std::string& where) {
  if (!std::isfinite(x)) Fail(where, "must hold finite float32 numbers", std::to_string(x));
  const volatile float scaled = x * by.multiplier;
  const volatile float half = scaled + 0.5f;
  const volatile float moved = std::floor(half) + static_cast<float>(by.zero_point);
  const float value = moved, low = static_cast<float>(by.qmin), high = static_cast<float>(by.qmax);
  return static_cast<int8_t>(std::min(std::max<float>(value, low), high));
}

// ---- the driver --------------------------------------------------------------------------------
// The functions of the original driver; physical addresses have 32 bits.
class Driver {
 public:
  explicit Driver(const std::string& library) : library_(library) {
    handle_ = dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (handle_ == nullptr) {
      const char* reason = dlerror();
      Fail(library, "must be a loadable shared library", reason == nullptr ? "" : reason);
    }
    Resolve("VTADeviceAlloc", &device_alloc_);
    Resolve("VTADeviceFree", &device_free_);
    Resolve("VTADeviceRun", &device_run_);
    Resolve("VTAMemAlloc", &mem_alloc_);
    Resolve("VTAMemFree", &mem_free_);
    Resolve("VTAMemGetPhyAddr", &address_);
    Resolve("VTAMemCopyFromHost", &copy_from_host_);
    Resolve("VTAMemCopyToHost", &copy_to_host_);
    Resolve("VTAFlushCache", &flush_);
    Resolve("VTAInvalidateCache", &invalidate_);
    device_ = device_alloc_();
    if (device_ == nullptr) Fail(library, "must have a device", "none from VTADeviceAlloc");
  }
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  ~Driver() {
    if (insns_ != nullptr) mem_free_(insns_);
    if (arena_ != nullptr) mem_free_(arena_);
    if (device_ != nullptr) device_free_(device_);
    // The library stays loaded: drivers keep state whose destructors run at exit.
  }

  // Puts instructions, fills and constants into the memory of the device.
  void Load(const Program& program) {
    const Machine& machine = program.machine;
    const uint64_t align = machine.alignment(), slack = align > 4096 ? align : 0;
    arena_bytes_ = machine.arena_bytes;
    arena_ = Allocate(arena_bytes_ + slack, "the arena");
    const uint64_t address = address_(arena_);
    Require(address % 4096 == 0, library_, "must give memory that starts a page of 4096 bytes",
            address);
    offset_ = (align - address % align) % align;
    Require(address + offset_ + arena_bytes_ <= uint64_t{1} << 32, library_,
            "must give memory with addresses of 32 bits", address);
    std::vector<uint8_t> insns(program.insns.data, program.insns.data + program.insns.size);
    for (size_t at = 0; at < insns.size(); at += 16) {
      const Transfer insn(&insns[at]);
      if (!insn.moves()) continue;
      const uint64_t base = insn.dram_base + (address + offset_) / machine.elem_bytes(insn.memory);
      const uint64_t mask = uint64_t{0xffffffff} << Transfer::kDramLsb;
      const uint64_t word = (U64(&insns[at]) & ~mask) | base << Transfer::kDramLsb;
      for (int b = 0; b < 8; ++b) insns[at + b] = static_cast<uint8_t>(word >> 8 * b);
    }
    insn_count_ = static_cast<uint32_t>(insns.size() / 16);
    insns_ = Allocate(insns.size(), "the instructions");
    copy_from_host_(insns_, insns.data(), insns.size());
    flush_(insns_, address_(insns_), static_cast<int>(insns.size()));
    for (const Fill& fill : program.fills) {
      const std::vector<uint8_t> bytes(static_cast<size_t>(fill.size), fill.byte);
      Write(fill.address, bytes.data(), fill.size);
    }
    Write(machine.constants_at, program.constants.data, program.constants.size);
  }

  void Write(uint64_t at, const uint8_t* bytes, uint64_t size) {
    if (size != 0) copy_from_host_(Arena(at), bytes, static_cast<size_t>(size));
  }
  void Read(uint64_t at, uint8_t* bytes, uint64_t size) {
    if (size != 0) copy_to_host_(bytes, Arena(at), static_cast<size_t>(size));
  }

  void Run() {
    // What the original runtime waits for: longer than any program takes.
    constexpr uint32_t kWaitCycles = uint32_t{1} << 31;
    const uint32_t address = address_(arena_);
    const int bytes = static_cast<int>(offset_ + arena_bytes_);
    flush_(arena_, address, bytes);
    const int status = device_run_(device_, address_(insns_), insn_count_, kWaitCycles);
    if (status != 0) {
      Fail(library_, "must finish the program", "status " + std::to_string(status));
    }
    invalidate_(arena_, address, bytes);
  }

 private:
  template <typename Function>
  void Resolve(const char* name, Function* function) {
    *function = reinterpret_cast<Function>(dlsym(handle_, name));
    if (*function == nullptr) Fail(library_, std::string("must have the function ") + name, "none");
  }

  void* Allocate(uint64_t bytes, const std::string& what) {
    Require(bytes < uint64_t{1} << 31, library_, "must have less than 2^31 bytes for " + what,
            bytes);
    constexpr int kCached = 1;  // as the original runtime; caches are flushed and invalidated
    void* const memory = mem_alloc_(static_cast<size_t>(bytes), kCached);
    if (memory == nullptr) {
      Fail(library_, "must have " + std::to_string(bytes) + " bytes for " + what, "none");
    }
    return memory;
  }

  uint8_t* Arena(uint64_t at) const {
    return static_cast<uint8_t*>(arena_) + static_cast<size_t>(offset_ + at);
  }

  std::string library_;
  void* handle_ = nullptr;
  void* device_ = nullptr;
  void* arena_ = nullptr;
  void* insns_ = nullptr;
  uint64_t arena_bytes_ = 0, offset_ = 0;
  uint32_t insn_count_ = 0;
  void* (*device_alloc_)() = nullptr;
  void (*device_free_)(void*) = nullptr;
  int (*device_run_)(void*, uint32_t, uint32_t, uint32_t) = nullptr;
  void* (*mem_alloc_)(size_t, int) = nullptr;
  void (*mem_free_)(void*) = nullptr;
  uint32_t (*address_)(void*) = nullptr;
  void (*copy_from_host_)(void*, const void*, size_t) = nullptr;
  void (*copy_to_host_)(void*, const void*, size_t) = nullptr;
  void (*flush_)(void*, uint32_t, int) = nullptr;
  void (*invalidate_)(void*, uint32_t, int) = nullptr;
};

// ---- the command line --------------------------------------------------------------------------
struct Options {
  std::string program, driver, scales;
  std::vector<std::string> inputs, outputs;
  bool packed = false, info = false;
  int repeat = 1;
};

Options ParseOptions(int count, char** words) {
  Options options;
  const std::map<std::string, std::string*> texts = {{"--driver", &options.driver},
                                                     {"--scales", &options.scales}};
  const std::map<std::string, std::vector<std::string>*> lists = {{"--input", &options.inputs},
                                                                  {"--output", &options.outputs}};
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const auto value = [&] {
      if (++i == count) Fail(word, "must be followed by a value");
      return std::string(words[i]);
    };
    if (word == "--packed") {
      options.packed = true;
    } else if (word == "--info") {
      options.info = true;
    } else if (word == "--repeat") {
      options.repeat = ToInteger(value(), word, 1, 1000000000);
    } else if (texts.count(word) != 0) {
      *texts.at(word) = value();
    } else if (lists.count(word) != 0) {
      lists.at(word)->push_back(value());
    } else if (word.size() > 1 && word[0] == '-') {
      Fail(word, "must be an option that vta_run --help lists");
    } else if (options.program.empty()) {
      options.program = word;
    } else {
      Fail(word, "must be the only program", options.program);
    }
  }
  if (options.program.empty()) Fail("vta_run", "must be given a program, see vta_run --help");
  if (options.driver.empty() && !options.info) Fail("--driver", "must be given, or --info");
  if (options.packed && !options.scales.empty()) {
    Fail("--packed", "must not be given with --scales, which is for float32 numbers");
  }
  return options;
}

void CheckCount(const char* option, size_t given, size_t want) {
  Require(given == want, option, "must be given once for each of " + std::to_string(want), given);
}

std::vector<uint8_t> InputBytes(const Program& program, size_t position, const Options& options,
                                const Scales& scales) {
  const Tensor& t = program.inputs[position];
  const std::string& path = options.inputs[position];
  const std::vector<uint8_t> bytes = ReadFile(path);
  const uint64_t want = options.packed ? t.packed_bytes(program.machine)
                                       : t.elems() * (options.scales.empty() ? 1 : 4);
  const char* const kind = options.packed ? "packed" : options.scales.empty() ? "int8" : "float32";
  Require(bytes.size() == want, path,
          "must have " + std::to_string(want) + " bytes, the " + kind + " numbers of " + t.text(),
          bytes.size());
  if (options.packed) return bytes;
  std::vector<int8_t> numbers(static_cast<size_t>(t.elems()));
  if (options.scales.empty()) {
    std::memcpy(numbers.data(), bytes.data(), bytes.size());
  } else {
    for (size_t i = 0; i < numbers.size(); ++i) {
      float x = 0;
      std::memcpy(&x, &bytes[4 * i], 4);
      numbers[i] = Quantized(x, scales.inputs.at(position), path);
    }
  }
  return Pack(t, program.machine, numbers.data(), path);
}

void WriteOutput(const Program& program, size_t position, const Options& options,
                 const Scales& scales, const std::vector<uint8_t>& packed) {
  const Tensor& t = program.outputs[position];
  const std::string& path = options.outputs[position];
  if (options.packed) return WriteFile(path, packed.data(), packed.size());
  const std::vector<int32_t> numbers = Unpack(t, program.machine, packed);
  if (!options.scales.empty()) {
    const OutputScale& by = scales.outputs.at(position);
    std::vector<float> reals(numbers.size());
    const uint64_t pixels = t.h * t.w;
    for (size_t i = 0; i < numbers.size(); ++i) {
      const uint64_t channel = by.scale.size() == 1 ? 0 : i / pixels % t.c;
      const float moved = static_cast<float>(numbers[i]) - static_cast<float>(by.zero_point);
      reals[i] = moved * by.scale[static_cast<size_t>(channel)];
    }
    return WriteFile(path, reals.data(), reals.size() * sizeof(float));
  }
  if (t.is_int32) return WriteFile(path, numbers.data(), numbers.size() * sizeof(int32_t));
  const std::vector<int8_t> bytes(numbers.begin(), numbers.end());
  WriteFile(path, bytes.data(), bytes.size());
}

void ShowInfo(const Program& program) {
  const Machine& m = program.machine;
  std::printf("machine: batch %llu, block %llu, %u-bit inputs, %u-bit weights\n",
              static_cast<unsigned long long>(m.batch), static_cast<unsigned long long>(m.block),
              m.inp_bits, m.wgt_bits);
  std::printf("memory: %llu bytes, %llu instructions\n",
              static_cast<unsigned long long>(m.arena_bytes),
              static_cast<unsigned long long>(program.insns.size / 16));
  const auto show = [&](const char* kind, const std::vector<Tensor>& tensors) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      std::printf("%s %zu: %s, %llu bytes packed\n", kind, i, tensors[i].text().c_str(),
                  static_cast<unsigned long long>(tensors[i].packed_bytes(m)));
    }
  };
  show("input", program.inputs);
  show("output", program.outputs);
}

void Run(const Options& options) {
  const Program program = ReadProgram(options.program);
  if (options.info) return ShowInfo(program);
  CheckCount("--input", options.inputs.size(), program.inputs.size());
  CheckCount("--output", options.outputs.size(), program.outputs.size());
  Scales scales;
  if (!options.scales.empty()) scales = ReadScales(options.scales, program);
  std::vector<std::vector<uint8_t>> inputs;
  for (size_t i = 0; i < program.inputs.size(); ++i) {
    inputs.push_back(InputBytes(program, i, options, scales));
  }
  Driver driver(options.driver);
  driver.Load(program);
  double least_ms = 0, total_ms = 0;
  for (int run = 0; run < options.repeat; ++run) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      driver.Write(program.inputs[i].address, inputs[i].data(), inputs[i].size());
    }
    const auto begin = std::chrono::steady_clock::now();
    driver.Run();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    least_ms = run == 0 ? took.count() : std::min(least_ms, took.count());
    total_ms += took.count();
  }
  for (size_t i = 0; i < program.outputs.size(); ++i) {
    const Tensor& t = program.outputs[i];
    std::vector<uint8_t> packed(static_cast<size_t>(t.packed_bytes(program.machine)));
    driver.Read(t.address, packed.data(), packed.size());
    WriteOutput(program, i, options, scales, packed);
  }
  std::printf("%d run%s, %.3f ms each, the fastest %.3f ms\n", options.repeat,
              options.repeat == 1 ? "" : "s", total_ms / options.repeat, least_ms);
}

}  // namespace
}  // namespace vta_run

int main(int count, char** words) {
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(words[i], "--help") == 0) {
      std::fputs(vta_run::kHelp, stdout);
      return 0;
    }
  }
  try {
    vta_run::Run(vta_run::ParseOptions(count, words));
    return 0;
  } catch (const vta_run::Error& error) {
    std::fprintf(stderr, "vta_run: %s\n", error.what());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "vta_run: must have more memory for this program\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "vta_run: must not fail, got %s\n", error.what());
  }
  return 2;
}
