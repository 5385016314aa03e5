// The same target for libFuzzer, which knows what code a mutant reaches.
#include <cstring>
#include <random>
#include <string>

#include "mutator.h"
#include "target.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vta::RunFile(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  std::mt19937_64 random(seed);
  if (random() % 32 == 0) return LLVMFuzzerMutate(data, size, max_size);
  const std::string file(reinterpret_cast<const char*>(data), size);
  const std::string other = vta::RandomProgram(&random);
  // A corpus that is empty begins with a program.
  const std::string mutant =
      vta::SplitSections(file).empty() ? other : vta::Mutate(file, other, &random);
  if (mutant.size() > max_size) return size;
  std::memcpy(data, mutant.data(), mutant.size());
  return mutant.size();
}
