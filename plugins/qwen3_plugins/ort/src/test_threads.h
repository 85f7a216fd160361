// Threads for tests and benchmarks. Between calls they spin, as ONNX Runtime's do.
#pragma once

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include "parallel.h"

namespace qwen3 {

class TestThreads {
 public:
  explicit TestThreads(int threads) {
    for (int i = 1; i < threads; ++i) helpers_.emplace_back([this] { serve(); });
  }
  ~TestThreads() {
    stop_ = true;
    ++round_;
    for (std::thread& helper : helpers_) helper.join();
  }
  TestThreads(const TestThreads&) = delete;
  TestThreads& operator=(const TestThreads&) = delete;

  Parallel parallel() {
    return {[](void* context, void (*task)(void*, size_t), size_t count, void* user) {
              static_cast<TestThreads*>(context)->run(task, count, user);
            },
            this, static_cast<int>(helpers_.size()) + 1};
  }

 private:
  void run(void (*task)(void*, size_t), size_t count, void* user) {
    task_ = task;
    user_ = user;
    count_ = count;
    next_ = 0;
    idle_ = 0;
    ++round_;
    work();
    wait([&] { return idle_ == helpers_.size(); });
  }

  // Yields only after a while: on a shared machine the processor would be gone for long.
  template <class Condition>
  static void wait(const Condition& condition) {
    for (int turn = 0; !condition(); ++turn) {
      if (turn > 20000) std::this_thread::yield();
    }
  }

  void work() {
    for (size_t i = next_++; i < count_; i = next_++) task_(user_, i);
  }

  void serve() {
    for (size_t seen = 0;; ++seen) {
      wait([&] { return round_ != seen; });
      if (stop_) return;
      work();
      ++idle_;
    }
  }

  std::vector<std::thread> helpers_;
  void (*task_)(void*, size_t) = nullptr;
  void* user_ = nullptr;
  size_t count_ = 0;
  std::atomic<size_t> next_{0}, idle_{0}, round_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace qwen3
