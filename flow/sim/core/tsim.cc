#include "tsim.h"

#include <charconv>
#include <cstring>

#include "error.h"

namespace vta {

TimingParams ParseTiming(const std::string& numbers) {
  static_assert(sizeof(TimingParams) == kTimingParams * sizeof(uint32_t));
  TimingParams params;
  if (numbers.empty()) return params;
  uint32_t raw[kTimingParams] = {};
  const char* at = numbers.data();
  const char* const end = at + numbers.size();
  bool good = true;
  for (int i = 0; good && i < kTimingParams; ++i) {
    const auto [next, error] = std::from_chars(at, end, raw[i]);
    const bool last = i + 1 == kTimingParams;
    good = error == std::errc() && (last ? next == end : next != end && *next == ',');
    at = next + 1;
  }
  if (!good) {
    Fail(ErrorKind::kConfig, "timing",
         "must be " + std::to_string(kTimingParams) + " numbers, separated by commas", numbers,
         "vta_config.timing has them");
  }
  std::memcpy(&params, raw, sizeof(params));
  if (params.tags == 0 || params.queue_insns == 0) {
    Fail(ErrorKind::kConfig, "timing", "must have tags and a queue", numbers);
  }
  return params;
}

}  // namespace vta
