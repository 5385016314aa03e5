// The face of the core to TVM and Python; the only file that knows tvm_ffi.
#include <tvm/ffi/cast.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "error.h"
#include "fsim.h"

namespace vta {
namespace {

namespace ffi = tvm::ffi;

// Runs `body`; an error of ours becomes one of tvm_ffi whose kind is the name of the Python class.
template <typename Body>
auto Guard(Body body) {
  try {
    return body();
  } catch (const Error& error) {
    throw ffi::Error(ErrorName(error.kind()), error.what(), "");
  }
}

OriginFn ToOrigin(const ffi::Optional<ffi::Function>& origin) {
  if (!origin.has_value()) return nullptr;
  const ffi::Function call = *origin;
  return [call](size_t index) {
    return std::string(call(static_cast<int64_t>(index)).cast<ffi::String>());
  };
}

size_t TensorBytes(const ffi::TensorView& tensor) {
  return static_cast<size_t>(tensor.numel()) * ((tensor.dtype().bits + 7) / 8);
}

ffi::Map<ffi::String, int64_t> ToMap(const Counters& c) {
  ffi::Map<ffi::String, int64_t> map;
  const std::pair<const char*, uint64_t> items[] = {
      {"inp_bytes", c.inp_bytes}, {"wgt_bytes", c.wgt_bytes}, {"acc_bytes", c.acc_bytes},
      {"uop_bytes", c.uop_bytes}, {"out_bytes", c.out_bytes}, {"gemm_ops", c.gemm_ops},
      {"alu_ops", c.alu_ops},     {"insns", c.insns}};
  for (const auto& [name, value] : items) map.Set(name, static_cast<int64_t>(value));
  return map;
}

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
    return std::nullopt;
  }

 private:
  ffi::Array<ffi::Bytes> Run(const ffi::Optional<int64_t>& seed, const ffi::Array<int64_t>& flat) {
    std::vector<Tap> taps;
    for (size_t t = 0; t + 2 < flat.size(); t += 3) {
      taps.push_back({static_cast<uint32_t>(flat[t]), static_cast<uint64_t>(flat[t + 1]),
                      static_cast<uint64_t>(flat[t + 2])});
    }
    std::optional<uint64_t> random;
    if (seed.has_value()) random = static_cast<uint64_t>(*seed);
    ffi::Array<ffi::Bytes> snapshots;
    for (const std::vector<uint8_t>& s : sim_->Run(random, taps)) {
      snapshots.push_back(ffi::Bytes(reinterpret_cast<const char*>(s.data()), s.size()));
    }
    return snapshots;
  }

  std::mutex mutex_;
  std::unique_ptr<FSim> sim_;
};

Config ToConfig(const ffi::Array<int64_t>& words) {
  uint32_t raw[kConfigWords] = {};
  for (size_t i = 0; i < words.size() && i < kConfigWords; ++i) {
    raw[i] = static_cast<uint32_t>(words[i]);
  }
  return Config::FromWords(raw);
}

// segments and defined: flat pairs (address, bytes).
ffi::Module CreateFSim(const ffi::Array<int64_t>& config, const ffi::Bytes& insns,
                       const ffi::Array<int64_t>& segments, bool strict,
                       const ffi::Optional<ffi::Function>& origin, const ffi::String& kernels,
                       const ffi::Array<int64_t>& defined) {
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
        std::move(list), strict, ToOrigin(origin), std::string(kernels).c_str(), std::move(ranges));
    return ffi::Module(ffi::make_object<FSimModule>(std::move(sim)));
  });
}

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef().def("vta.fsim.create", CreateFSim);
}

}  // namespace
}  // namespace vta
