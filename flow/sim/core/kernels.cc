#include "kernels.h"

#include <cstring>
#include <initializer_list>

namespace vta {
namespace {

#ifdef VTA_X86_KERNELS
bool Has(const char* name) {
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (std::strcmp(name, "avx512vnni") == 0) return avx512 && __builtin_cpu_supports("avx512vnni");
  if (std::strcmp(name, "avx512bw") == 0) return avx512;
  return __builtin_cpu_supports("avx2");
}
#endif

}  // namespace

const Kernels* ChooseKernels(const char* name, size_t block) {
#ifdef VTA_X86_KERNELS
  // The vector kernels need 16 output lanes.
  if (block >= 16) {
    for (const Kernels* k : {&kAvx512vnniKernels, &kAvx512bwKernels, &kAvx2Kernels}) {
      if ((name[0] == '\0' || std::strcmp(name, k->name) == 0) && Has(k->name)) return k;
    }
  }
#endif
  (void)block;
  if (name[0] == '\0' || std::strcmp(name, "plain") == 0) return &kPlainKernels;
  return nullptr;
}

}  // namespace vta
