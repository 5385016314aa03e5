#include "kernels.h"

#include <cstring>

#ifdef VTA_X86_KERNELS
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#ifdef VTA_ARM_KERNELS
#include <sys/auxv.h>
#endif

namespace vta {
namespace {

#ifdef VTA_X86_KERNELS
// Whether the processor has AMX for int8, and Linux lets this process use its tiles: they are
// state that a process must ask for (kernel.org, arch/x86/xstate).
bool HasAmx() {
  uint32_t a, b, c, d;
  constexpr uint32_t kTile = 1U << 24, kInt8 = 1U << 25;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kTile) == 0 || (d & kInt8) == 0) {
    return false;
  }
#ifdef SYS_arch_prctl
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool HasVnni() { return HasAvx512() && __builtin_cpu_supports("avx512vnni"); }
bool HasAmxAndVnni() {
  static const bool has = HasVnni() && HasAmx();
  return has;
}
bool HasAvx2() { return __builtin_cpu_supports("avx2"); }
#endif

#ifdef VTA_ARM_KERNELS
bool HasDot() {
  constexpr unsigned long kDotProduct = 1UL << 20;  // HWCAP_ASIMDDP of Linux
  return (getauxval(AT_HWCAP) & kDotProduct) != 0;
}
#endif

bool Always() { return true; }

struct Choice {
  const Kernels* kernels;
  bool (*usable)();
  bool by_itself;  // chosen when nothing is named
};

// The fastest first.
constexpr Choice kChoices[] = {
#ifdef VTA_X86_KERNELS
    {&kAmxKernels, HasAmxAndVnni, true},  {&kAvx512vnniKernels, HasVnni, true},
    {&kAvx512bwKernels, HasAvx512, true}, {&kAvx2Kernels, HasAvx2, true},
#endif
#ifdef VTA_ARM_KERNELS
    {&kNeonDotKernels, HasDot, true},     {&kNeonKernels, Always, true},
#endif
    {&kPlainKernels, Always, true},       {&kAmxModelKernels, Always, false},
};

}  // namespace

const Kernels* ChooseKernels(const char* name, size_t block) {
#ifdef VTA_X86_KERNELS
  __builtin_cpu_init();
#endif
  for (const Choice& c : kChoices) {
    // The vector kernels need a column of 16 output lanes.
    if (block < kColumn && c.kernels != &kPlainKernels) continue;
    const bool wanted = name[0] == '\0' ? c.by_itself : std::strcmp(name, c.kernels->name) == 0;
    if (wanted && c.usable()) return c.kernels;
  }
  return nullptr;
}

}  // namespace vta
