// The part of ONNX Runtime that the operator library calls, over memory that ends where a tensor ends: a byte further is
// AddressSanitizer's. Thousands of nodes a second run on it, where a session of ONNX Runtime takes a millisecond.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "abi.h"

namespace fuzz {

using Random = std::mt19937_64;
using Shape = std::vector<int64_t>;
using Type = ONNXTensorElementDataType;

constexpr int64_t kMostOutput = int64_t{1} << 28;  // bytes; a larger output is refused as out of memory

int64_t width_of(Type type);
// Elements; -1 where there are more than memory can hold.
int64_t elements_of(const Shape& shape);

struct Free {
  void operator()(uint8_t* memory) const { std::free(memory); }
};

struct Value {
  Type type{};
  Shape shape;
  std::unique_ptr<uint8_t, Free> data;  // as many bytes as the shape says

  Value() = default;
  Value(Type element, Shape sizes);
  int64_t bytes() const { return elements_of(shape) * width_of(type); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data.get());
  }
};

using Attribute = std::variant<int64_t, float, std::string, std::vector<int64_t>, std::vector<float>>;

// One node.
struct Node {
  std::string op;
  std::map<std::string, Attribute> attributes;
  std::vector<std::optional<Value>> inputs;
  std::vector<Value> outputs;  // those that the operator asked for
  int stored = -1;             // the input that the model holds, if any
  Random* order = nullptr;     // in which tasks run
};

// The library's operators, by name.
using Operators = std::map<std::string, const OrtCustomOp*>;
Operators load(const std::string& library);

// Creates the kernel, runs it once and destroys it. The message of a refusal, or nothing.
std::optional<std::string> run(const OrtCustomOp& op, Node& node);

}  // namespace fuzz
