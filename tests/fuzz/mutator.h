// Mutations of program files that know their structure: instructions, micro-ops, constants,
// tensors, the machine and META change field by field, and checksums are made right again, so that
// most mutants reach what lies behind the checks of the file.
#ifndef TESTS_FUZZ_MUTATOR_H_
#define TESTS_FUZZ_MUTATOR_H_

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace vta {

using Sections = std::vector<std::pair<std::string, std::string>>;

// Joins sections to a program file with right offsets and checksums.
std::string JoinSections(const Sections& sections);
// The sections of a file; empty when it has no table.
Sections SplitSections(const std::string& file);
// One to a few changes of `file`; `other` is one to take parts from. The same for the same state of
// `random`.
std::string Mutate(const std::string& file, const std::string& other, std::mt19937_64* random);
// A small legal program drawn from `random`, for a corpus that needs no files.
std::string RandomProgram(std::mt19937_64* random);

}  // namespace vta

#endif  // TESTS_FUZZ_MUTATOR_H_
