// Arrays that are kept together and never move.
#ifndef FLOW_SIM_CORE_POOL_H_
#define FLOW_SIM_CORE_POOL_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace vta {

class Pool {
 public:
  // Memory for `count` values, 64-byte aligned.
  template <typename T>
  T* Array(size_t count) {
    static_assert(std::is_trivially_copyable<T>::value, "nothing is constructed");
    const size_t bytes = (count * sizeof(T) + kAlign - 1) / kAlign * kAlign;
    if (bytes > left_) Grow(bytes);
    uint8_t* const array = at_;
    at_ += bytes;
    left_ -= bytes;
    return reinterpret_cast<T*>(array);
  }
  size_t bytes() const { return bytes_; }

 private:
  static constexpr size_t kAlign = 64, kBlock = size_t{1} << 16;

  void Grow(size_t bytes) {
    left_ = std::max(bytes, kBlock);
    blocks_.emplace_back(new uint8_t[left_ + kAlign]);
    bytes_ += left_ + kAlign;
    uint8_t* const start = blocks_.back().get();
    at_ = start + (kAlign - reinterpret_cast<uintptr_t>(start) % kAlign) % kAlign;
  }

  std::vector<std::unique_ptr<uint8_t[]>> blocks_;
  uint8_t* at_ = nullptr;
  size_t left_ = 0;
  size_t bytes_ = 0;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_POOL_H_
