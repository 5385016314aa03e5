// The errors of the core, in the form of vta_config/errors.py: where: what must hold, got what;
// what to do.
#ifndef FLOW_SIM_CORE_ERROR_H_
#define FLOW_SIM_CORE_ERROR_H_

#include <stdexcept>
#include <string>
#include <utility>

#include "text.h"

namespace vta {

enum class ErrorKind { kConfig, kCapacity, kDecode, kHazard, kDeadlock, kDriver, kArtifact };

// The Python class of vta_config.errors that an ErrorKind becomes.
inline const char* ErrorName(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kConfig:
      return "ConfigError";
    case ErrorKind::kCapacity:
      return "CapacityError";
    case ErrorKind::kDecode:
      return "DecodeError";
    case ErrorKind::kHazard:
      return "HazardError";
    case ErrorKind::kDeadlock:
      return "DeadlockError";
    case ErrorKind::kDriver:
      return "DriverError";
    case ErrorKind::kArtifact:
      break;
  }
  return "ArtifactError";
}

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& sentence) : std::runtime_error(sentence), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// A program that costs more than is allowed: a CapacityError whose cause is no fault of it.
class CostError : public Error {
 public:
  explicit CostError(const std::string& sentence) : Error(ErrorKind::kCapacity, sentence) {}
};

// Throws "where: must, got `got`; hint", fit for a terminal; empty parts are left out.
[[noreturn]] inline void Fail(ErrorKind kind, const std::string& where, const std::string& must,
                              const std::string& got = "", const std::string& hint = "") {
  std::string sentence = where + ": " + must;
  if (!got.empty()) sentence += ", got " + got;
  if (!hint.empty()) sentence += "; " + hint;
  throw Error(kind, Printable(sentence));
}

}  // namespace vta

#endif  // FLOW_SIM_CORE_ERROR_H_
