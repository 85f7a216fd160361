#include "damage.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "nodes.h"

namespace fuzz {
namespace {

constexpr int64_t kMostBytes = 1 << 20;  // of a changed input

// The sum, which may wrap.
int64_t added(int64_t left, int64_t right) {
  return static_cast<int64_t>(static_cast<uint64_t>(left) + static_cast<uint64_t>(right));
}

// Numbers near the ends of types and of what products wrap at, and neighbors of what was there.
int64_t strange(Random& random, int64_t was) {
  const int64_t power = int64_t{1} << pick(random, 0, 62);
  switch (pick(random, 0, 7)) {
    case 0: return added(was, pick(random, -2, 2));
    case 1: return pick(random, -2, 3);
    case 2: return power;
    case 3: return power - 1;
    case 4: return added(was, power);
    case 5: return -power;
    case 6: return std::numeric_limits<int64_t>::min() + pick(random, 0, 1);
    default: return std::numeric_limits<int64_t>::max() - pick(random, 0, 1);
  }
}

float strange(Random& random, float was) {
  using Limits = std::numeric_limits<float>;
  const float all[] = {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(), Limits::max(), -Limits::max(),
                       Limits::denorm_min(), -0.0f, 0.0f, -1.0f, 1e30f, -was};
  return all[pick(random, 0, std::size(all) - 1)];
}

// Of a container that is not empty.
template <class Container>
auto& any_of(Random& random, Container& all) {
  return *std::next(all.begin(), pick(random, 0, static_cast<int64_t>(all.size()) - 1));
}

// Whether results stay finite: bytes of one format can be infinity in another.
bool change_attribute(Random& random, Node& node) {
  Attribute& attribute = any_of(random, node.attributes).second;
  if (auto* integer = std::get_if<int64_t>(&attribute)) {
    *integer = strange(random, *integer);
  } else if (auto* real = std::get_if<float>(&attribute)) {
    *real = strange(random, *real);
  } else {  // text, or what another change made a list
    const char* all[] = {"", "int4", "uint4", "int8", "fp8", "fp16", "bf16", "fp32", "none", "swiglu", "INT4", "int4 "};
    attribute = std::string(all[pick(random, 0, std::size(all) - 1)]);
    return false;
  }
  return true;
}

// Powers of two whose products wrap to nothing, and inputs of as many bytes.
void wrap_sizes(Random& random, Node& node) {
  static const int powers[] = {20, 24, 28, 30, 31, 32, 58, 59, 60, 62};
  for (auto& [name, attribute] : node.attributes) {
    auto* integer = std::get_if<int64_t>(&attribute);
    if (integer == nullptr || chance(random, 0.4)) continue;
    *integer = int64_t{1} << powers[pick(random, 0, std::size(powers) - 1)];
  }
  for (std::optional<Value>& input : node.inputs)
    if (input && chance(random, 0.6)) {
      Shape shape = input->shape;
      if (!shape.empty()) shape.back() = 0;
      input = Value(input->type, shape);
    }
}

void retype_attribute(Random& random, Node& node) {
  Attribute& attribute = any_of(random, node.attributes).second;
  const Attribute all[] = {int64_t{1}, 1.0f, std::string("1"), std::vector<int64_t>(1, 1), std::vector<float>(1, 1.0f),
                           std::vector<int64_t>{}};
  attribute = all[pick(random, 0, std::size(all) - 1)];
}

std::optional<Value>& random_input(Random& random, Node& node) { return any_of(random, node.inputs); }

// Whether the bytes are the same, over and over where there are more.
bool replace(Random& random, std::optional<Value>& input, Type type, const Shape& shape) {
  const int64_t elements = elements_of(shape);
  if (elements < 0 || elements * width_of(type) > kMostBytes) return true;
  Value changed(type, shape);
  const bool same = input->type == type && (input->bytes() > 0 || elements == 0);
  if (same) {
    for (int64_t i = 0; i < changed.bytes(); ++i) changed.data.get()[i] = input->data.get()[i % input->bytes()];
  } else {
    fill(random, changed);
  }
  input = std::move(changed);
  return same;
}

bool reshape(Random& random, Node& node) {
  std::optional<Value>& input = random_input(random, node);
  if (!input) return true;
  Shape shape = input->shape;
  switch (pick(random, 0, 4)) {
    case 0: shape.push_back(1); break;
    case 1:
      if (!shape.empty()) shape.pop_back();
      break;
    case 2:
      if (!shape.empty()) {
        int64_t& size = any_of(random, shape);
        size = added(size, pick(random, -1, 2));
      }
      break;
    case 3:  // nothing, with axes of any size
      for (int64_t& size : shape)
        if (chance(random, 0.5)) size = int64_t{1} << pick(random, 0, 62);
      if (!shape.empty()) any_of(random, shape) = 0;
      break;
    default: shape.resize(static_cast<size_t>(pick(random, 0, 10)), 1);
  }
  for (int64_t& size : shape) size = std::max<int64_t>(size, 0);
  return replace(random, input, input->type, shape);
}

bool retype(Random& random, Node& node) {
  std::optional<Value>& input = random_input(random, node);
  if (!input) return true;
  const Type all[] = {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,   ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
                      ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
                      ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,   ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
                      ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16};
  return replace(random, input, all[pick(random, 0, std::size(all) - 1)], Shape(input->shape));
}

// A few numbers of one input. Whether they are whole numbers, whose results stay finite.
bool change_values(Random& random, Node& node) {
  std::optional<Value>& input = random_input(random, node);
  const int64_t count = input ? elements_of(input->shape) : 0;
  bool whole = true;
  for (int64_t i = pick(random, 1, 3); i > 0 && count > 0; --i) {
    const int64_t at = pick(random, 0, count - 1);
    switch (input->type) {
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
        input->as<float>()[at] = strange(random, input->as<float>()[at]);
        whole = false;
        break;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32: {
        int32_t& value = input->as<int32_t>()[at];
        value = static_cast<int32_t>(strange(random, static_cast<int64_t>(value)));
        break;
      }
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
        input->as<int64_t>()[at] = strange(random, input->as<int64_t>()[at]);
        break;
      default:
        input->data.get()[static_cast<size_t>(pick(random, 0, input->bytes() - 1))] = static_cast<uint8_t>(random());
        whole = false;
    }
  }
  return whole;
}

}  // namespace

bool damage(Random& random, Node& node) {
  bool finite = true;
  for (int64_t i = chance(random, 0.3) ? pick(random, 2, 3) : 1; i > 0; --i) {
    switch (pick(random, node.attributes.empty() ? 4 : 0, 9)) {  // the first four change an attribute
      case 0:
      case 1: finite = change_attribute(random, node) && finite; break;
      case 2: retype_attribute(random, node); break;
      case 3: {
        const auto gone = std::next(node.attributes.begin(), pick(random, 0, node.attributes.size() - 1));
        finite = !std::holds_alternative<std::string>(gone->second) && finite;
        node.attributes.erase(gone);
        break;
      }
      case 4: wrap_sizes(random, node); break;
      case 5: finite = reshape(random, node) && finite; break;
      case 6: finite = retype(random, node) && finite; break;
      case 7: random_input(random, node).reset(); break;
      case 8: node.stored = static_cast<int>(pick(random, 0, node.inputs.size() - 1)); break;
      default: finite = change_values(random, node) && finite;
    }
  }
  const auto epsilon = node.attributes.find("epsilon");
  const bool zero = epsilon != node.attributes.end() && epsilon->second == Attribute(0.0f);
  return finite && !zero;  // a row of zeros has no norm then
}

}  // namespace fuzz
