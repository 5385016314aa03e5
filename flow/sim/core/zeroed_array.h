// A zeroed array whose pages take memory only once they are touched.
#ifndef FLOW_SIM_CORE_ZEROED_ARRAY_H_
#define FLOW_SIM_CORE_ZEROED_ARRAY_H_

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

namespace vta {

template <typename T>
class ZeroedArray {
  static_assert(std::is_trivially_copyable<T>::value, "all bits zero must be a value");

 public:
  ZeroedArray() = default;
  // Throws std::bad_alloc.
  explicit ZeroedArray(size_t size)
      : data_(static_cast<T*>(std::calloc(size == 0 ? 1 : size, sizeof(T)))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  T* data() const { return data_.get(); }
  T& operator[](size_t index) const { return data_.get()[index]; }

 private:
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_ZEROED_ARRAY_H_
