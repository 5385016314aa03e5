// What both faces of the core share that Python sees: errors, limits, counters, timings.
#ifndef VTA_SIM_CORE_FFI_UTIL_H_
#define VTA_SIM_CORE_FFI_UTIL_H_

#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/function.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "error.h"
#include "fsim.h"
#include "tsim.h"

namespace vta {

namespace ffi = tvm::ffi;

inline constexpr char kNoMemory[] =
    "memory: must be enough for the program; use a machine with more, or a smaller program";

// Runs `body`; an error of ours becomes one of tvm_ffi whose kind is the name of the Python class.
template <typename Body>
auto Guard(Body body) {
  try {
    return body();
  } catch (const Error& error) {
    throw ffi::Error(ErrorName(error.kind()), error.what(), "");
  } catch (const std::bad_alloc&) {
    throw ffi::Error("CapacityError", kNoMemory, "");
  } catch (const std::length_error&) {
    throw ffi::Error("CapacityError", kNoMemory, "");
  }
}

// A limit as Python passes it: below 0 is none.
inline uint64_t ToLimit(int64_t limit) {
  return limit < 0 ? UINT64_MAX : static_cast<uint64_t>(limit);
}

inline OriginFn ToOrigin(const ffi::Optional<ffi::Function>& origin) {
  if (!origin.has_value()) return nullptr;
  const ffi::Function call = *origin;
  return [call](size_t index) {
    return std::string(call(static_cast<int64_t>(index)).cast<ffi::String>());
  };
}

inline size_t TensorBytes(const ffi::TensorView& tensor) {
  return static_cast<size_t>(tensor.numel()) * ((tensor.dtype().bits + 7) / 8);
}

inline ffi::Map<ffi::String, int64_t> ToMap(const Counters& c) {
  ffi::Map<ffi::String, int64_t> map;
  const std::pair<const char*, uint64_t> items[] = {
      {"inp_bytes", c.inp_bytes}, {"wgt_bytes", c.wgt_bytes}, {"acc_bytes", c.acc_bytes},
      {"uop_bytes", c.uop_bytes}, {"out_bytes", c.out_bytes}, {"gemm_ops", c.gemm_ops},
      {"alu_ops", c.alu_ops},     {"insns", c.insns}};
  for (const auto& [name, value] : items) map.Set(name, static_cast<int64_t>(value));
  return map;
}

inline ffi::Map<ffi::String, int64_t> ToMap(const Cost& cost) {
  ffi::Map<ffi::String, int64_t> map;
  map.Set("steps", static_cast<int64_t>(std::min<uint64_t>(cost.steps, INT64_MAX)));
  map.Set("bytes", static_cast<int64_t>(std::min<uint64_t>(cost.bytes, INT64_MAX)));
  return map;
}

// Copies the rows of `line` to int64[insns][kTimingColumns] and returns the cycles of the whole.
inline int64_t FillTable(const Timeline& line, const ffi::TensorView& table) {
  static_assert(sizeof(InsnTiming) == kTimingColumns * sizeof(int64_t));
  const size_t bytes = line.insns.size() * sizeof(InsnTiming);
  if (TensorBytes(table) != bytes) {
    Fail(ErrorKind::kConfig, "time.table", "must take " + std::to_string(bytes) + " bytes",
         std::to_string(TensorBytes(table)));
  }
  if (bytes != 0) std::memcpy(table.data_ptr(), line.insns.data(), bytes);
  return line.cycles;
}

}  // namespace vta

#endif  // VTA_SIM_CORE_FFI_UTIL_H_
