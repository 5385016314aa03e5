// A program as a TVM runtime module.
#include <tvm/ffi/cast.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "engine.h"
#include "error.h"
#include "ffi_util.h"
#include "fsim.h"
#include "program.h"
#include "tsim.h"

namespace vta {
namespace {

// How a driver is waited for: Python may look for signals, such as Ctrl-C, meanwhile.
DriverOptions WaitFor(double timeout_s) {
  return {timeout_s, [] {
            if (TVMFFIEnvCheckSignals() != 0) throw ffi::EnvErrorAlreadySet();
          }};
}

// Loads a driver library and opens its device, without a program.
void CheckDriver(const ffi::String& library, double timeout_s) {
  Guard([&] { DriverProcess(std::string(library), WaitFor(timeout_s)); });
}

// Memory of a tensor that tvm_ffi owns.
struct HostAlloc {
  void AllocData(DLTensor* tensor) {
    size_t bytes = static_cast<size_t>(tensor->dtype.bits) / 8;
    for (int i = 0; i < tensor->ndim; ++i) bytes *= static_cast<size_t>(tensor->shape[i]);
    tensor->data = std::calloc(bytes + 1, 1);  // pages that nothing touches take no memory
    if (tensor->data == nullptr) throw std::bad_alloc();
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

ffi::Tensor NewTensor(const std::vector<int64_t>& shape, uint8_t code, uint8_t bits) {
  return ffi::Tensor::FromNDAlloc(HostAlloc(), ffi::Shape(shape), DLDataType{code, bits, 1},
                                  DLDevice{kDLCPU, 0});
}

// How much longer than fsim a global function may take for a step.
constexpr uint64_t kFunctionSlowness = 32;

// Runs a program through a global function vta.engine.NAME(program_bytes, arena).
class FunctionEngine : public Engine {
 public:
  FunctionEngine(const Program& program, ffi::Function function)
      : file_(program.file),
        function_(std::move(function)),
        arena_(NewTensor({program.config.arena_bytes}, kDLUInt, 8)) {
    WriteInitial(program, [this](uint64_t address, const uint8_t* bytes, size_t size) {
      Write(address, bytes, size);
    });
  }
  void Write(uint64_t address, const uint8_t* bytes, size_t size) override {
    if (size != 0) std::memcpy(static_cast<uint8_t*>(arena_.data_ptr()) + address, bytes, size);
  }
  void Read(uint64_t address, uint8_t* bytes, size_t size) override {
    if (size != 0) std::memcpy(bytes, static_cast<uint8_t*>(arena_.data_ptr()) + address, size);
  }
  void Run() override { function_(file_, arena_); }

 private:
  ffi::Bytes file_;
  ffi::Function function_;
  ffi::Tensor arena_;
};

// Larger borders of a tensor are as absurd.
constexpr uint32_t kMaxBorder = uint32_t{1} << 30;

// A layer of the META section.
struct LayerInfo {
  std::string name;
  TensorInfo output;
  std::vector<int64_t> shape;
  uint32_t last_store = 0;
};

// A compiled subgraph as a TVM runtime module: the function `symbol` takes inputs, then outputs.
class VtaModule : public ffi::ModuleObj {
 private:
  template <typename Body>
  auto Locked(Body body) {
    return Guard([&] {
      const std::lock_guard<std::mutex> lock(mutex_);
      return body();
    });
  }

 public:
  // A program that costs more than `limits` allow is kept, but has no engine: whatever needs one
  // throws, until set_limits allows more.
  VtaModule(ffi::String symbol, std::string file, const Limits& limits)
      : symbol_(std::move(symbol)), limits_(limits) {
    ParseProgram(std::move(file), &program_);
    try {
      SetEngine("fsim", "");
    } catch (const CostError& error) {
      too_costly_ = error;
    }
  }

  const char* kind() const final { return "vta"; }
  int GetPropertyMask() const final {
    return ffi::Module::kBinarySerializable | ffi::Module::kRunnable;
  }

  ffi::Bytes SaveToBytes() const final {
    // The length of the symbol in decimal digits, a line feed, the symbol, the program file.
    const std::string symbol = symbol_;
    return ffi::Bytes(std::to_string(symbol.size()) + "\n" + symbol + program_.file);
  }

  static ffi::Module LoadFromBytes(const ffi::Bytes& saved) {
    const std::string head(saved.data(), std::min<size_t>(saved.size(), 9));
    const size_t line = head.find('\n');
    if (line == 0 || line > 8 || head.find_first_not_of("0123456789") != line ||
        std::stoul(head) > saved.size() - line - 1) {
      throw ffi::Error("ArtifactError",
                       "module vta: must start with the length of its symbol; export it again", "");
    }
    const size_t size = std::stoul(head);
    const char* const file = saved.data() + line + 1 + size;
    return Guard([&] {
      return Make(std::string(saved.data() + line + 1, size),
                  std::string(file, static_cast<size_t>(saved.data() + saved.size() - file)),
                  Limits());
    });
  }

  // (symbol, file) or (symbol, file, steps, bytes): what the program may cost.
  static void Create(ffi::PackedArgs args, ffi::Any* result) {
    *result = Guard([&] {
      Limits limits;
      if (args.size() == 4) {
        limits = {ToLimit(args[2].cast<int64_t>()), ToLimit(args[3].cast<int64_t>())};
      } else if (args.size() != 2) {
        Fail(ErrorKind::kConfig, "vta.create_module", "must be called with 2 or 4 arguments",
             std::to_string(args.size()));
      }
      const auto file = args[1].cast<ffi::Bytes>();
      return Make(args[0].cast<ffi::String>(), std::string(file.data(), file.size()), limits);
    });
  }

  static ffi::Module Make(ffi::String symbol, std::string file, const Limits& limits) {
    return ffi::Module(ffi::make_object<VtaModule>(std::move(symbol), std::move(file), limits));
  }

  ffi::Optional<ffi::Function> GetFunction(const ffi::String& name) final {
    const auto self = ffi::GetRef<ffi::Module>(this);
    if (name == symbol_) {
      return ffi::Function::FromPacked(
          [this, self](ffi::PackedArgs args, ffi::Any*) { Locked([&] { Call(args); }); });
    }
    if (name == "taps") {
      return ffi::Function::FromPacked([this, self](ffi::PackedArgs args, ffi::Any* result) {
        *result = Locked([&] { return Taps(args); });
      });
    }
    if (name == "set_engine") {
      return ffi::Function::FromTyped([this, self](ffi::String engine, ffi::String argument) {
        Locked([&] { SetEngine(engine, argument); });
      });
    }
    if (name == "set_limits") {
      return ffi::Function::FromTyped([this, self](int64_t steps, int64_t bytes) {
        Locked([&] {
          const Limits before = limits_;
          limits_ = {ToLimit(steps), ToLimit(bytes)};
          try {
            SetEngine(std::string(engine_name_), std::string(argument_));
          } catch (...) {
            limits_ = before;
            throw;
          }
        });
      });
    }
    if (name == "set_driver_timeout") {
      return ffi::Function::FromTyped(
          [this, self](double seconds) { Locked([&] { driver_timeout_s_ = seconds; }); });
    }
    if (name == "engine") {
      return ffi::Function::FromTyped([this, self]() { return ffi::String(engine_name_); });
    }
    if (name == "layers") {
      return ffi::Function::FromTyped([this, self]() {
        return Locked([&] {
          ffi::Array<ffi::String> names;
          for (const LayerInfo& layer : Layers()) names.push_back(layer.name);
          return names;
        });
      });
    }
    if (name == "counters") {
      return ffi::Function::FromTyped([this, self](int64_t begin, int64_t end) {
        return Locked([&] { return ToMap(Count(begin, end)); });
      });
    }
    if (name == "program") {
      return ffi::Function::FromTyped([this, self]() { return ffi::Bytes(program_.file); });
    }
    if (name == "cycles") {
      return ffi::Function::FromTyped([this, self]() {
        return Locked([&] {
          const auto* tsim = dynamic_cast<const TSimEngine*>(&engine());
          if (tsim == nullptr) {
            Fail(ErrorKind::kConfig, "engine", "must be tsim to have cycles", engine_name_,
                 "set_engine(\"tsim\", \"\")");
          }
          return tsim->cycles();
        });
      });
    }
    return std::nullopt;
  }

 private:
  // Throws CostError while the program costs more than is allowed.
  Engine& engine() const {
    if (engine_ == nullptr) throw *too_costly_;
    return *engine_;
  }

  void SetEngine(const std::string& name, const std::string& argument) {
    if (name == "fsim") {
      engine_ = std::make_unique<FSimEngine>(program_, MakeOrigin(), argument, limits_);
    } else if (name == "tsim") {
      engine_ = std::make_unique<TSimEngine>(program_, MakeOrigin(), argument, limits_);
    } else if (name == "driver") {
      CheckCost(program_, limits_);
      engine_ = std::make_unique<DriverEngine>(program_, argument, WaitFor(driver_timeout_s_));
    } else {
      const auto function = ffi::Function::GetGlobal("vta.engine." + name);
      if (!function.has_value()) {
        Fail(ErrorKind::kConfig, "engine",
             "must be fsim, tsim, driver or a registered global function vta.engine.NAME", name);
      }
      CheckCost(program_, {limits_.steps / kFunctionSlowness, limits_.bytes});
      engine_ = std::make_unique<FunctionEngine>(program_, *function);
    }
    engine_name_ = name;
    argument_ = argument;
  }

  ffi::json::Object Meta() const {
    const ffi::String text(reinterpret_cast<const char*>(program_.meta.data), program_.meta.size);
    ffi::String problem;
    const ffi::json::Value value = ffi::json::Parse(text, &problem);
    const auto object = value.as<ffi::json::Object>();
    if (!object.has_value()) {
      Fail(ErrorKind::kArtifact, "program META", "must be a JSON object", std::string(problem),
           "compile it again");
    }
    return *object;
  }

  // Tells where instructions come from, read from META when first needed: "origins" has rows of a
  // layer's index, a tile and a purpose, and runs of a row and a number of instructions.
  OriginFn MakeOrigin() const {
    return [this](size_t index) -> std::string {
      try {
        const ffi::json::Object meta = Meta();
        const auto origins = meta.at(ffi::String("origins")).cast<ffi::json::Object>();
        const auto runs = origins.at(ffi::String("runs")).cast<ffi::json::Array>();
        for (size_t i = 0; i + 1 < runs.size(); i += 2) {
          const size_t count = static_cast<size_t>(runs[i + 1].cast<int64_t>());
          if (index < count) {
            const auto table = origins.at(ffi::String("table")).cast<ffi::json::Array>();
            return OriginText(table[runs[i].cast<int64_t>()].cast<ffi::json::Array>(), meta);
          }
          index -= count;
        }
      } catch (const std::exception&) {
        // A program without origins still gets its error.
      }
      return "";
    };
  }

  // A row of the table as vta_config/origin.py writes it for people.
  static std::string OriginText(const ffi::json::Array& row, const ffi::json::Object& meta) {
    std::string text;
    const auto add = [&text](const std::string& word) {
      if (!word.empty()) text += text.empty() ? word : " " + word;
    };
    if (row[0] != nullptr) {
      const auto layers = meta.at(ffi::String("layers")).cast<ffi::json::Array>();
      const auto layer = layers[row[0].cast<int64_t>()].cast<ffi::json::Object>();
      add(Shortened(layer.at(ffi::String("name")).cast<ffi::String>()));
    }
    if (row[1] != nullptr) {
      std::string places;
      for (const ffi::Any& place : row[1].cast<ffi::json::Array>()) {
        places += (places.empty() ? "" : ", ") + std::to_string(place.cast<int64_t>());
      }
      add("tile (" + places + ")");
    }
    add(Shortened(row[2].cast<ffi::String>()));
    return text;
  }

  std::vector<LayerInfo> Layers() const {
    try {
      return ReadLayers();
    } catch (const Error&) {
      throw;
    } catch (const ffi::Error& error) {  // a value that is missing or of another type
      Fail(ErrorKind::kArtifact, "program META",
           "must describe layers by name, address, dtype, last_store and shape",
           std::string(error.what()), "compile it again");
    }
  }

  std::vector<LayerInfo> ReadLayers() const {
    std::vector<LayerInfo> layers;
    for (const ffi::Any& item : Meta().at(ffi::String("layers")).cast<ffi::json::Array>()) {
      const auto entry = item.cast<ffi::json::Object>();
      const auto get = [&](const char* key) { return entry.at(ffi::String(key)); };
      LayerInfo layer;
      layer.name = get("name").cast<ffi::String>();
      layer.output.address = static_cast<uint64_t>(get("address").cast<int64_t>());
      layer.output.is_int32 = get("dtype").cast<ffi::String>() == "int32";
      if (entry.count(ffi::String("planes")) != 0) {
        // CheckTensor refuses what a machine does not have; it sees no number that has wrapped.
        const int64_t planes = get("planes").cast<int64_t>();
        layer.output.SetPlanes(planes >= 0 && planes < 32 ? static_cast<uint32_t>(planes) : 32);
      } else {
        layer.output.SetPlanes(0);
      }
      layer.last_store = static_cast<uint32_t>(get("last_store").cast<int64_t>());
      for (const ffi::Any& dim : get("shape").cast<ffi::json::Array>()) {
        layer.shape.push_back(dim.cast<int64_t>());
      }
      uint32_t dims[4] = {1, 1, 1, 1};
      for (size_t i = 0; i < layer.shape.size() && i < 4; ++i) {
        dims[i] = static_cast<uint32_t>(layer.shape[i]);
      }
      layer.output.n = dims[0];
      layer.output.c = dims[1];
      layer.output.h = dims[2];
      layer.output.w = dims[3];
      InputForm& form = layer.output.form;
      form.extent[0] = dims[2];
      form.extent[1] = dims[3];
      if (entry.count(ffi::String("border")) != 0) {
        // Rows above, columns to the left, rows below, columns to the right, and their number.
        const auto border = get("border").cast<ffi::json::Array>();
        for (int side = 0; side < 4; ++side) {
          const int64_t size = border[side].cast<int64_t>();
          // CheckTensor refuses what is absurd; it sees no number that has wrapped.
          const bool sane = size >= 0 && size < kMaxBorder;
          const uint32_t kept = sane ? static_cast<uint32_t>(size) : kMaxBorder;
          form.extent[side % 2] += kept;
          if (side < 2) form.padding[side] = kept;
        }
      }
      CheckTensor(layer.output, program_.config, "program layer " + layer.name);
      layers.push_back(std::move(layer));
    }
    return layers;
  }

  Counters Count(int64_t begin, int64_t end) const {
    const auto* fsim = dynamic_cast<const FSimEngine*>(&engine());
    if (fsim == nullptr) {
      Fail(ErrorKind::kConfig, "engine", "must be fsim to count", engine_name_);
    }
    const size_t last = end < 0 ? program_.insns.size / kInsnBytes : static_cast<size_t>(end);
    return fsim->sim().stream().Count(static_cast<size_t>(begin), last);
  }

  // Checks argument `index` against its tensor and returns its data.
  void* Argument(const ffi::PackedArgs& args, int index, const TensorInfo& t) const {
    const auto view = args[index].cast<ffi::TensorView>();
    const DLDataType want{kDLInt, static_cast<uint8_t>(t.is_int32 ? 32 : 8), 1};
    const DLDataType got = view.dtype();
    const bool fits = got.code == want.code && got.bits == want.bits && got.lanes == 1 &&
                      view.device().device_type == kDLCPU && view.IsContiguous() &&
                      static_cast<uint64_t>(view.numel()) == t.elems();
    if (!fits) {
      std::string shape;
      for (int i = 0; i < view.ndim(); ++i) {
        shape += (i == 0 ? "" : ", ") + std::to_string(view.size(i));
      }
      Fail(ErrorKind::kArtifact, std::string(symbol_) + " argument " + std::to_string(index),
           "must be a contiguous int" + std::to_string(want.bits) + "[" + std::to_string(t.n) +
               ", " + std::to_string(t.c) + ", " + std::to_string(t.h) + ", " +
               std::to_string(t.w) + "] in host memory",
           (got.code == kDLInt ? "int" : "type ") + std::to_string(got.bits) + "[" + shape + "]");
    }
    return view.data_ptr();
  }

  void CheckCount(const ffi::PackedArgs& args, size_t want) const {
    if (static_cast<size_t>(args.size()) != want) {
      Fail(ErrorKind::kArtifact, std::string(symbol_),
           "must be called with " + std::to_string(want) + " tensors", std::to_string(args.size()));
    }
  }

  void WriteInputs(const ffi::PackedArgs& args) {
    for (size_t i = 0; i < program_.inputs.size(); ++i) {
      const TensorInfo& t = program_.inputs[i];
      staging_.resize(t.packed_bytes(program_.config));
      const void* data = Argument(args, static_cast<int>(i), t);
      PackTensor(t, program_.config, static_cast<const int8_t*>(data), staging_.data(),
                 std::string(symbol_) + " input " + std::to_string(i));
      engine().Write(t.address, staging_.data(), staging_.size());
    }
  }

  void Call(const ffi::PackedArgs& args) {
    engine();
    CheckCount(args, program_.inputs.size() + program_.outputs.size());
    std::vector<void*> outputs;
    for (size_t i = 0; i < program_.outputs.size(); ++i) {
      const int index = static_cast<int>(program_.inputs.size() + i);
      outputs.push_back(Argument(args, index, program_.outputs[i]));
    }
    WriteInputs(args);
    engine().Run();
    for (size_t i = 0; i < outputs.size(); ++i) {
      const TensorInfo& t = program_.outputs[i];
      staging_.resize(t.packed_bytes(program_.config));
      engine().Read(t.address, staging_.data(), staging_.size());
      UnpackTensor(t, program_.config, staging_.data(), outputs[i]);
    }
  }

  // Runs on the inputs and returns every layer's output tensor, in the order of `layers`.
  ffi::Array<ffi::Tensor> Taps(const ffi::PackedArgs& args) {
    engine();
    CheckCount(args, program_.inputs.size());
    const std::vector<LayerInfo> layers = Layers();
    std::vector<Tap> taps;
    for (const LayerInfo& layer : layers) {
      taps.push_back(
          {layer.last_store, layer.output.address, layer.output.packed_bytes(program_.config)});
    }
    WriteInputs(args);
    const std::vector<std::vector<uint8_t>> snapshots = engine().RunTapped(taps);
    ffi::Array<ffi::Tensor> tensors;
    for (size_t i = 0; i < layers.size(); ++i) {
      const uint8_t bits = layers[i].output.is_int32 ? 32 : 8;
      ffi::Tensor tensor = NewTensor(layers[i].shape, kDLInt, bits);
      UnpackTensor(layers[i].output, program_.config, snapshots[i].data(), tensor.data_ptr());
      tensors.push_back(tensor);
    }
    return tensors;
  }

  std::mutex mutex_;
  ffi::String symbol_;
  Program program_;
  Limits limits_;
  std::string engine_name_ = "fsim";
  std::string argument_;
  double driver_timeout_s_ = 0;  // of the next driver; 0: none
  std::unique_ptr<Engine> engine_;
  std::optional<CostError> too_costly_;  // why there is no engine
  std::vector<uint8_t> staging_;
};

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef()
      .def("vta.driver.check", CheckDriver)
      .def_packed("vta.create_module", VtaModule::Create)
      .def("ffi.Module.load_from_bytes.vta", VtaModule::LoadFromBytes);
}

}  // namespace
}  // namespace vta
