// Fuzzing without libFuzzer: mutants of program files one after the other, the same for the same
// seed.
//
//     vta_fuzz [--seconds N] [--programs N] [--seed N] [--only N] [FILE.vta...]
//
// Mutates the files given and small random programs, until the time or the number is up. When a
// program crashes, hangs for 10 s or asks for 256 MiB at once, its number is said, and
// `--seed S --only N` runs it again alone.
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "mutator.h"
#include "target.h"

extern "C" {
void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));
const char* __asan_default_options() { return "max_allocation_size_mb=256:abort_on_error=0"; }
}

namespace {

constexpr time_t kHangSeconds = 10;
// Random programs to mutate, beside the files.
constexpr size_t kRandomPrograms = 64;

uint64_t seed = 1, number = 0;

void SayWhich() {
  char text[160];
  const int size = std::snprintf(
      text, sizeof(text), "vta_fuzz: it was --seed %llu --only %llu, with the same files\n",
      static_cast<unsigned long long>(seed), static_cast<unsigned long long>(number));
  if (write(2, text, static_cast<size_t>(size)) < 0) _exit(3);
}

// Ends this process once it has computed for so long; 0: never. Time that other processes take does
// not count.
void Watch(time_t seconds) {
  const itimerval timer{{0, 0}, {seconds, 0}};
  setitimer(ITIMER_PROF, &timer, nullptr);
}

void OnSignal(int signal) {
  SayWhich();
  _exit(128 + signal);
}

std::string ReadFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "vta_fuzz: %s: must be readable\n", path);
    std::exit(2);
  }
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seconds = UINT64_MAX, programs = UINT64_MAX, only = UINT64_MAX;
  std::vector<std::string> corpus;
  for (int i = 1; i < argc; ++i) {
    uint64_t* option = nullptr;
    if (std::strcmp(argv[i], "--seconds") == 0) option = &seconds;
    if (std::strcmp(argv[i], "--programs") == 0) option = &programs;
    if (std::strcmp(argv[i], "--seed") == 0) option = &seed;
    if (std::strcmp(argv[i], "--only") == 0) option = &only;
    if (option == nullptr) {
      corpus.push_back(ReadFile(argv[i]));
    } else if (i + 1 < argc) {
      *option = std::strtoull(argv[++i], nullptr, 10);
    }
  }
  if (seconds == UINT64_MAX && programs == UINT64_MAX && only == UINT64_MAX) seconds = 60;
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(SayWhich);
  std::signal(SIGABRT, OnSignal);
  std::signal(SIGPROF, OnSignal);
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < kRandomPrograms; ++i) corpus.push_back(vta::RandomProgram(&random));
  for (const std::string& file : corpus) {
    // Mutants of what does not run would all be refused at once.
    if (vta::RunFile(file) != vta::Outcome::kRan) {
      std::fprintf(stderr, "vta_fuzz: a program of the corpus must run within the limits\n");
      return 2;
    }
  }
  const auto begin = std::chrono::steady_clock::now();
  uint64_t ran = 0;
  double spent = 0;
  for (number = only == UINT64_MAX ? 0 : only; number < programs; ++number) {
    random.seed(seed * 0x9e3779b97f4a7c15ULL + number);
    const std::string& file = corpus[random() % corpus.size()];
    const std::string& other = corpus[random() % corpus.size()];
    Watch(kHangSeconds);
    ran += vta::RunFile(vta::Mutate(file, other, &random)) == vta::Outcome::kRan;
    if (only != UINT64_MAX) break;
    if (number % 256 != 255) continue;
    spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (spent >= static_cast<double>(seconds)) {
      ++number;
      break;
    }
  }
  Watch(0);
  spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("fuzz: %llu programs, %llu ran, %.0f a second\n",
              static_cast<unsigned long long>(number), static_cast<unsigned long long>(ran),
              static_cast<double>(number) / (spent > 0 ? spent : 1));
  return 0;
}
