// Products of sizes, and memory of such sizes: the one place where either is made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <new>
#include <string>

#include "refused.h"

namespace qwen3 {

constexpr int64_t kMostBytes = int64_t{1} << 47;  // that a process can address

// The product of sizes, of elements or bytes. Throws Refused where one is negative or the product is above `most`:
// "codes would be 4096 x 70368744177664, expected at most 140737488355328".
inline int64_t product(const char* what, std::initializer_list<int64_t> sizes, int64_t most = kMostBytes) {
  bool negative = false, empty = false, fits = true;
  int64_t total = 1;
  for (const int64_t size : sizes) {
    negative = negative || size < 0;
    empty = empty || size == 0;
    fits = fits && !__builtin_mul_overflow(total, size, &total) && total <= most;
  }
  // With a size of 0 there is nothing, however large the others are.
  if (!negative && (empty || fits)) return empty ? 0 : total;
  std::string factors;
  for (const int64_t size : sizes) factors += (factors.empty() ? "" : " x ") + std::to_string(size);
  throw Refused(std::string(what) + " would be " + factors + ", expected at most " + std::to_string(most));
}

// Memory for the duration of a call, 64-byte aligned and not initialized, with room to read one vector beyond it.
template <class T>
class Scratch {
 public:
  Scratch() = default;
  // For the product of `sizes`. Throws Refused, or std::bad_alloc.
  Scratch(const char* what, std::initializer_list<int64_t> sizes) {
    const int64_t bytes = product(what, {product(what, sizes), sizeof(T)});
    data_.reset(static_cast<T*>(std::aligned_alloc(64, (static_cast<size_t>(bytes) + 127) / 64 * 64)));
    if (!data_) throw std::bad_alloc();
  }
  T* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* pointer) const { std::free(pointer); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace qwen3
