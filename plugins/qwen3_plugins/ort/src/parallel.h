// How kernels use threads without knowing whose they are.
#pragma once

#include <cstddef>
#include <type_traits>

namespace qwen3 {

// Runs task(user, 0..count-1), on any threads in any order, and returns when all are done. Operators adapt ONNX
// Runtime's pool to it, tests std::thread. Tasks must not throw.
struct Parallel {
  void (*run)(void* context, void (*task)(void* user, size_t index), size_t count, void* user);
  void* context;
  int threads;  // how many tasks may run at a time; a hint for choosing `count`
};

// for_each(parallel, count, [&](size_t index) {...})
template <class Task>
inline void for_each(const Parallel& parallel, size_t count, const Task& task) {
  if (count == 1) {
    task(size_t{0});
  } else if (count > 1) {
    parallel.run(
        parallel.context, [](void* user, size_t index) { (*static_cast<const Task*>(user))(index); }, count,
        const_cast<void*>(static_cast<const void*>(&task)));
  }
}

// The tasks of a range, in order, on the calling thread.
inline Parallel serial() {
  return {[](void*, void (*task)(void*, size_t), size_t count, void* user) {
            for (size_t index = 0; index < count; ++index) task(user, index);
          },
          nullptr, 1};
}

// The begin of part `index` when `total` items are split into `parts` of nearly equal size.
inline size_t split(size_t total, size_t parts, size_t index) { return total * index / parts; }

}  // namespace qwen3
