// What the fuzzers run on a file: load, verify, run on both engines, read and write every tensor.
#ifndef TESTS_FUZZ_TARGET_H_
#define TESTS_FUZZ_TARGET_H_

#include <cstdint>
#include <string>

namespace vta {

// How far a file came.
enum class Outcome { kRefused, kRan };

// Runs a program file on fsim, in both orders, and on tsim, with small limits. A file that cannot
// be run must end in an Error; whatever else happens is a fault of ours.
Outcome RunFile(const std::string& file);

}  // namespace vta

#endif  // TESTS_FUZZ_TARGET_H_
