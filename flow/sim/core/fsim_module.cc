// The simulators as Python's flow.sim uses them, stream by stream.
#include <tvm/ffi/cast.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/reflection/registry.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ffi_util.h"

namespace vta {
namespace {

// One functional simulator as Python's flow.sim.fsim.FSim uses it.
class FSimModule : public ffi::ModuleObj {
 public:
  explicit FSimModule(std::unique_ptr<FSim> sim) : sim_(std::move(sim)) {}

  const char* kind() const final { return "vta_fsim"; }
  int GetPropertyMask() const final { return ffi::Module::kRunnable; }

  ffi::Optional<ffi::Function> GetFunction(const ffi::String& name) final {
    const auto self = ffi::GetRef<ffi::Module>(this);
    if (name == "write") {
      return ffi::Function::FromTyped([this, self](int64_t address, ffi::TensorView data) {
        Guard([&] {
          const std::lock_guard<std::mutex> lock(mutex_);
          sim_->Write(static_cast<uint64_t>(address), static_cast<const uint8_t*>(data.data_ptr()),
                      TensorBytes(data));
        });
      });
    }
    if (name == "read") {
      return ffi::Function::FromTyped([this, self](int64_t address, ffi::TensorView data) {
        Guard([&] {
          const std::lock_guard<std::mutex> lock(mutex_);
          const size_t bytes = TensorBytes(data);
          const uint8_t* from = sim_->Read(static_cast<uint64_t>(address), bytes);
          if (bytes != 0) std::memcpy(data.data_ptr(), from, bytes);
        });
      });
    }
    if (name == "counters") {
      return ffi::Function::FromTyped([this, self](int64_t begin, int64_t end) {
        return ToMap(sim_->stream().Count(static_cast<size_t>(begin), static_cast<size_t>(end)));
      });
    }
    if (name == "cost") {
      return ffi::Function::FromTyped([this, self]() { return ToMap(sim_->stream().cost()); });
    }
    if (name == "verify") {
      return ffi::Function::FromTyped([this, self]() {
        Guard([&] {
          const std::lock_guard<std::mutex> lock(mutex_);
          sim_->Verify();
        });
      });
    }
    if (name == "kernels") {
      return ffi::Function::FromTyped(
          [this, self]() { return ffi::String(sim_->stream().kernels().name); });
    }
    if (name == "run") {
      return ffi::Function::FromTyped(
          [this, self](ffi::Optional<int64_t> seed, ffi::Array<int64_t> taps) {
            return Guard([&] {
              const std::lock_guard<std::mutex> lock(mutex_);
              return Run(seed, taps);
            });
          });
    }
    if (name == "time") {
      return ffi::Function::FromTyped(
          [this, self](ffi::String timing, ffi::TensorView table, int64_t stream_address) {
            return Guard([&] {
              const std::lock_guard<std::mutex> lock(mutex_);
              return Time(timing, table, static_cast<uint64_t>(stream_address));
            });
          });
    }
    if (name == "run_timed") {
      return ffi::Function::FromTyped([this, self](ffi::Array<int64_t> taps) {
        return Guard([&] {
          const std::lock_guard<std::mutex> lock(mutex_);
          if (!tsim_) Fail(ErrorKind::kConfig, "run_timed", "must follow time");
          return ToArray(tsim_->Run(ToTaps(taps)));
        });
      });
    }
    return std::nullopt;
  }

 private:
  int64_t Time(const ffi::String& timing, const ffi::TensorView& table, uint64_t stream_address) {
    tsim_.emplace(sim_.get(), ParseTiming(timing), stream_address);
    return FillTable(tsim_->timeline(), table);
  }

  static std::vector<Tap> ToTaps(const ffi::Array<int64_t>& flat) {
    std::vector<Tap> taps;
    for (size_t t = 0; t + 2 < flat.size(); t += 3) {
      taps.push_back({static_cast<uint32_t>(flat[t]), static_cast<uint64_t>(flat[t + 1]),
                      static_cast<uint64_t>(flat[t + 2])});
    }
    return taps;
  }

  static ffi::Array<ffi::Bytes> ToArray(const std::vector<std::vector<uint8_t>>& snapshots) {
    ffi::Array<ffi::Bytes> array;
    for (const std::vector<uint8_t>& s : snapshots) {
      array.push_back(ffi::Bytes(reinterpret_cast<const char*>(s.data()), s.size()));
    }
    return array;
  }

  ffi::Array<ffi::Bytes> Run(const ffi::Optional<int64_t>& seed, const ffi::Array<int64_t>& flat) {
    std::optional<uint64_t> random;
    if (seed.has_value()) random = static_cast<uint64_t>(*seed);
    return ToArray(sim_->Run(random, ToTaps(flat)));
  }

  std::mutex mutex_;
  std::unique_ptr<FSim> sim_;
  std::optional<TSim> tsim_;
};

Config ToConfig(const ffi::Array<int64_t>& words) {
  uint32_t raw[kConfigWords] = {};
  for (size_t i = 0; i < words.size() && i < kConfigWords; ++i) {
    raw[i] = static_cast<uint32_t>(words[i]);
  }
  return Config::FromWords(raw);
}

// Times a stream that is known to be legal, without memory.
int64_t TimeInsns(const ffi::Array<int64_t>& words, const ffi::Bytes& insns,
                  const ffi::String& timing, const ffi::TensorView& table, int64_t stream_address) {
  return Guard([&] {
    const Config config = ToConfig(words);
    const OriginFn origin;
    const std::vector<Insn> decoded =
        Decode(reinterpret_cast<const uint8_t*>(insns.data()), insns.size(), config, false, origin);
    return FillTable(Simulate(decoded, config, ParseTiming(timing), origin,
                              static_cast<uint64_t>(stream_address)),
                     table);
  });
}

// One instruction as the engines decode it, to be compared with vta_config/isa.py: opcode and
// tokens, the fields of LOAD and STORE, those of GEMM, those that only ALU has.
ffi::Array<int64_t> DecodeInsn(const ffi::Array<int64_t>& words, const ffi::Bytes& bytes) {
  return Guard([&] {
    if (bytes.size() != kInsnBytes) {
      Fail(ErrorKind::kDecode, "insn", "must be 16 bytes", std::to_string(bytes.size()));
    }
    const Insn i = Decode(reinterpret_cast<const uint8_t*>(bytes.data()), kInsnBytes,
                          ToConfig(words), true, OriginFn())[0];
    const int64_t op = static_cast<int64_t>(i.op), memory = static_cast<int64_t>(i.memory);
    const int64_t alu = static_cast<int64_t>(i.alu);
    return ffi::Array<int64_t>{op,         i.pop_prev,  i.pop_next,  i.push_prev, i.push_next,
                               memory,     i.sram_base, i.dram_base, i.y_size,    i.x_size,
                               i.x_stride, i.y_pad_0,   i.y_pad_1,   i.x_pad_0,   i.x_pad_1,
                               i.reset,    i.uop_begin, i.uop_end,   i.iter_out,  i.iter_in,
                               i.dst_out,  i.dst_in,    i.src_out,   i.src_in,    i.wgt_out,
                               i.wgt_in,   alu,         i.use_imm,   i.imm};
  });
}

// dst, src and wgt of a micro-op.
ffi::Array<int64_t> DecodeUop(const ffi::Array<int64_t>& words, int64_t word) {
  return Guard([&] {
    const Uop uop = UopDecoder(ToConfig(words))(static_cast<uint32_t>(word));
    return ffi::Array<int64_t>{uop.dst, uop.src, uop.wgt};
  });
}

// What a stream costs with one segment of `words[12]` bytes of DRAM.
ffi::Map<ffi::String, int64_t> CostOf(const ffi::Array<int64_t>& words, const ffi::Bytes& insns) {
  return Guard([&] {
    const Config config = ToConfig(words);
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(insns.data());
    Cost cost;
    cost.steps = StepsOf(Decode(bytes, insns.size(), config, false, nullptr), config);
    cost.bytes = MemoryOf(config.arena_bytes, insns.size() / kInsnBytes, config);
    return ToMap(cost);
  });
}

// segments and defined: flat pairs (address, bytes); limits: steps and bytes.
ffi::Module CreateFSim(const ffi::Array<int64_t>& config, const ffi::Bytes& insns,
                       const ffi::Array<int64_t>& segments, bool strict,
                       const ffi::Optional<ffi::Function>& origin, const ffi::String& kernels,
                       const ffi::Array<int64_t>& defined, int64_t max_steps, int64_t max_bytes) {
  return Guard([&] {
    std::vector<std::pair<uint64_t, uint64_t>> list;
    for (size_t i = 0; i + 1 < segments.size(); i += 2) {
      list.emplace_back(static_cast<uint64_t>(segments[i]), static_cast<uint64_t>(segments[i + 1]));
    }
    std::vector<Range> ranges;
    for (size_t i = 0; i + 1 < defined.size(); i += 2) {
      const uint64_t begin = static_cast<uint64_t>(defined[i]);
      ranges.push_back({begin, begin + static_cast<uint64_t>(defined[i + 1])});
    }
    auto sim = std::make_unique<FSim>(
        ToConfig(config), reinterpret_cast<const uint8_t*>(insns.data()), insns.size(),
        std::move(list), strict, ToOrigin(origin), std::string(kernels).c_str(), std::move(ranges),
        Limits{ToLimit(max_steps), ToLimit(max_bytes)});
    return ffi::Module(ffi::make_object<FSimModule>(std::move(sim)));
  });
}

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef()
      .def("vta.fsim.create", CreateFSim)
      .def("vta.time_insns", TimeInsns)
      .def("vta.cost", CostOf)
      .def("vta.decode_insn", DecodeInsn)
      .def("vta.decode_uop", DecodeUop);
}

}  // namespace
}  // namespace vta
