#include "nodes.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fuzz {
namespace {

constexpr Type kF32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, kF16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
               kU8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, kI8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
               kI32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, kI64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

Value ordinary(Random& random, Type type, Shape shape) {
  Value value(type, std::move(shape));
  fill(random, value);
  return value;
}

template <class T>
Value integers(Type type, const std::vector<T>& numbers, Shape shape) {
  Value value(type, std::move(shape));
  std::copy(numbers.begin(), numbers.end(), value.as<T>());
  return value;
}

struct Packing {
  std::string format;
  int64_t group;  // the attribute
};

Packing random_packing(Random& random) {
  static const Packing all[] = {{"int4", 32},   {"int4", 64}, {"int4", 128}, {"uint4", 32}, {"uint4", 64},
                                {"uint4", 128}, {"int8", 32}, {"int8", 64},  {"int8", 128}, {"int8", 0},
                                {"fp8", 128},   {"fp8", 0},   {"fp16", 0},   {"bf16", 0},   {"fp32", 0}};
  return all[pick(random, 0, std::size(all) - 1)];
}

int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

constexpr int64_t kRecord = 40;  // bytes of 16 float16 scales and 16 zero points of uint4

// Written from the description in qwen3_plugins/layouts.py.
struct Packed {
  int64_t code_bytes, scales;
  Type scale_type;
};

Packed packed(const Packing& packing, int64_t n, int64_t k, bool swiglu) {
  const bool int8 = packing.format == "int8", uint4 = packing.format == "uint4";
  const bool integer = int8 || uint4 || packing.format == "int4";
  const int64_t step = packing.group != 0 ? packing.group : int8 ? 64 : 8;
  const int64_t groups = divide_up(k, step), panels = swiglu ? 2 * divide_up(n / 2, 16) : divide_up(n, 16);
  const int64_t bits = packing.format == "int4" || uint4 ? 4
                       : int8 || packing.format == "fp8" ? 8
                       : packing.format == "fp32"        ? 32
                                                         : 16;
  const bool scaled = integer || packing.format == "fp8";
  const int64_t each = packing.group == 0 ? 16 : uint4 ? groups * kRecord : integer ? groups * 16 : groups;
  return {panels * 16 * groups * step * bits / 8, scaled ? panels * each : 0,
          uint4                           ? kU8
          : integer && packing.group != 0 ? kF16
                                          : kF32};
}

// Codes and, where the format has them, scales of `stacked` matrices.
void add_matrix(Random& random, Node& node, const Packing& packing, int64_t n, int64_t k, bool swiglu,
                int64_t stacked = 1) {
  const Packed sizes = packed(packing, n, k, swiglu);
  Value codes(kU8, {stacked * sizes.code_bytes});
  if (packing.format == "fp16" || packing.format == "bf16" || packing.format == "fp32") {
    Value numbers(packing.format == "fp32" ? kF32 : kF16, {codes.bytes() / (packing.format == "fp32" ? 4 : 2)});
    fill(random, numbers);
    std::copy_n(numbers.data.get(), codes.bytes(), codes.data.get());
  } else {
    fill(random, codes);
  }
  node.inputs.emplace_back(std::move(codes));
  if (sizes.scales == 0) {
    node.inputs.emplace_back();
  } else {
    node.inputs.emplace_back(ordinary(random, sizes.scale_type, {stacked * sizes.scales}));
  }
  if (packing.format != "uint4") return;
  Value& records = *node.inputs.back();  // zero points may have any bits, scales not
  const Value scales = ordinary(random, kF16, {records.bytes() / kRecord * 16});
  for (int64_t at = 0; at < scales.bytes(); at += 32)
    std::copy_n(scales.data.get() + at, 32, records.data.get() + at / 32 * kRecord);
}

void maybe(Random& random, Node& node, Type type, Shape shape) {
  if (chance(random, 0.5)) {
    node.inputs.emplace_back();
  } else {
    node.inputs.emplace_back(ordinary(random, type, std::move(shape)));
  }
}

int64_t random_rows(Random& random) { return chance(random, 0.1) ? pick(random, 0, 40) : pick(random, 0, 4); }

void set_packing(Random& random, Node& node, const Packing& packing) {
  node.attributes["format"] = packing.format;
  if (packing.group != 0 || chance(random, 0.5)) node.attributes["group_size"] = packing.group;
}

void set_arithmetic(Random& random, Node& node) {
  if (chance(random, 0.5)) node.attributes["epsilon"] = chance(random, 0.5) ? 1e-6f : 1e-3f;
  if (chance(random, 0.5)) node.attributes["precise"] = pick(random, 0, 1);
}

Node embedding(Random& random) {
  Node node{"Embedding", {}, {}, {}};
  const int64_t n = pick(random, 1, 70), k = pick(random, 1, 200), rows = random_rows(random);
  const Packing packing = random_packing(random);
  set_packing(random, node, packing);
  node.attributes["n"] = n;
  node.attributes["k"] = k;
  std::vector<int64_t> ids(static_cast<size_t>(rows));
  for (int64_t& id : ids) id = pick(random, 0, n - 1);
  node.inputs.emplace_back(integers(kI64, ids, {rows}));
  add_matrix(random, node, packing, n, k, false);
  return node;
}

Node linear(Random& random) {
  Node node{"Linear", {}, {}, {}};
  const bool swiglu = chance(random, 0.4);
  const int64_t n = swiglu ? 2 * pick(random, 1, 40) : pick(random, 1, 70), k = pick(random, 1, 200);
  const int64_t rows = random_rows(random);
  const Packing packing = random_packing(random);
  set_packing(random, node, packing);
  set_arithmetic(random, node);
  node.attributes["n"] = n;
  node.attributes["k"] = k;
  if (swiglu || chance(random, 0.5)) node.attributes["activation"] = std::string(swiglu ? "swiglu" : "none");
  node.inputs.emplace_back(ordinary(random, kF32, {rows, k}));
  add_matrix(random, node, packing, n, k, swiglu);
  maybe(random, node, kF32, {k});
  maybe(random, node, kF32, {rows, swiglu ? n / 2 : n});
  return node;
}

Node moe(Random& random) {
  Node node{"MoE", {}, {}, {}};
  const int64_t experts = pick(random, 1, 9), hidden = pick(random, 1, 70), inner = pick(random, 1, 50);
  const int64_t rows = random_rows(random);
  const Packing packing = random_packing(random);
  static const Packing routers[] = {{"fp32", 0}, {"fp16", 0}, {"bf16", 0}};
  const Packing router = routers[pick(random, 0, 2)];
  set_packing(random, node, packing);
  set_arithmetic(random, node);
  node.attributes["experts"] = experts;
  node.attributes["top_k"] = pick(random, 1, experts);
  node.attributes["hidden"] = hidden;
  node.attributes["intermediate"] = inner;
  if (router.format != "fp32" || chance(random, 0.5)) node.attributes["router_format"] = router.format;
  if (chance(random, 0.5)) node.attributes["normalize"] = pick(random, 0, 1);
  node.inputs.emplace_back(ordinary(random, kF32, {rows, hidden}));
  maybe(random, node, kF32, {hidden});
  add_matrix(random, node, router, experts, hidden, false);
  node.inputs.pop_back();  // a router has no scales
  add_matrix(random, node, packing, 2 * inner, hidden, true, experts);
  add_matrix(random, node, packing, hidden, inner, false, experts);
  maybe(random, node, kF32, {rows, hidden});
  return node;
}

Node head(Random& random) {
  Node node{"Head", {}, {}, {}};
  const int64_t n = chance(random, 0.002) ? pick(random, 16000, 20000) : pick(random, 1, 200);
  const int64_t k = pick(random, 1, n > 1000 ? 8 : 200), tokens = random_rows(random);
  const int64_t rows = tokens == 0 ? 0 : random_rows(random), live = pick(random, 1, n);
  const Packing packing = random_packing(random);
  set_packing(random, node, packing);
  set_arithmetic(random, node);
  node.attributes["n"] = n;
  node.attributes["k"] = k;
  std::vector<int32_t> picked(static_cast<size_t>(rows));
  for (int32_t& row : picked) row = static_cast<int32_t>(pick(random, 0, tokens - 1));
  node.inputs.emplace_back(ordinary(random, kF32, {tokens, k}));
  node.inputs.emplace_back(integers(kI32, picked, {rows}));
  node.inputs.emplace_back(integers<int32_t>(kI32, {static_cast<int32_t>(live)}, {}));
  node.inputs.emplace_back(integers<int32_t>(kI32, {static_cast<int32_t>(pick(random, 0, live))}, {}));
  node.inputs.emplace_back(ordinary(random, kF32, {k}));
  add_matrix(random, node, packing, n, k, false);
  return node;
}

Node attention(Random& random) {
  Node node{"Attention", {}, {}, {}};
  static const int64_t dims[] = {2, 8, 16, 24, 32, 40, 64, 128};
  const int64_t block = pick(random, 1, 20), sequences = pick(random, 0, 4);
  std::vector<int32_t> start = {0}, context, used;
  int32_t most = 0, blocks = 0, longest = 1;
  int64_t pairs = 0;  // of queries and keys
  for (int64_t s = 0; s < sequences; ++s) {
    const int32_t count = static_cast<int32_t>(chance(random, 0.1) ? pick(random, 0, 150) : pick(random, 0, 5));
    context.push_back(static_cast<int32_t>(chance(random, 0.05) ? pick(random, 0, 1500) : pick(random, 0, 40)));
    start.push_back(start.back() + count);
    pairs += count * (context.back() + count);
    longest = std::max(longest, context.back() + count);
    used.push_back(static_cast<int32_t>(divide_up(context.back() + count, block)));
    most = std::max(most, used.back());
    blocks += used.back();
  }
  int64_t kv_heads = pick(random, 1, 4), group = chance(random, 0.1) ? pick(random, 1, 150) : pick(random, 1, 6);
  int64_t dim = dims[pick(random, 0, std::size(dims) - 1)];
  // Many cases tell more than long ones.
  const int64_t work = chance(random, 0.005) ? INT64_MAX : 1 << 16;
  if (pairs * kv_heads * group * dim > work) dim = std::min<int64_t>(dim, 16);
  if (pairs * kv_heads * group * dim > work) group = std::min<int64_t>(group, 2);
  if (pairs * kv_heads * group * dim > work) kv_heads = 1;
  const int64_t heads = kv_heads * group;
  const int64_t tokens = start.back(), width = most + pick(random, 0, 2);
  blocks += static_cast<int32_t>(pick(random, 0, 3));
  std::vector<int32_t> ids(static_cast<size_t>(blocks)), table(static_cast<size_t>(sequences * width), -1);
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), random);
  for (int64_t s = 0, next = 0; s < sequences; ++s)
    for (int64_t i = 0; i < used[static_cast<size_t>(s)]; ++i)
      table[static_cast<size_t>(s * width + i)] = ids[static_cast<size_t>(next++)];
  const bool int8 = chance(random, 0.5);
  const int64_t positions = longest + pick(random, 0, 3);
  node.attributes = {{"num_heads", heads}, {"kv_num_heads", kv_heads}, {"head_dim", dim}};
  if (chance(random, 0.5)) node.attributes["epsilon"] = 1e-6f;
  node.inputs.emplace_back(ordinary(random, kF32, {tokens, (heads + 2 * kv_heads) * dim}));
  for (int i = 0; i < 2; ++i) node.inputs.emplace_back(ordinary(random, kF32, {dim}));
  for (int i = 0; i < 2; ++i) node.inputs.emplace_back(ordinary(random, kF32, {positions, dim / 2}));
  node.inputs.emplace_back(ordinary(random, int8 ? kI8 : kF16, {blocks, 2, kv_heads, block, dim}));
  node.inputs.emplace_back();
  if (int8) node.inputs.back() = ordinary(random, kF32, {blocks, 2, kv_heads, block});
  node.inputs.emplace_back(integers(kI32, start, {sequences + 1}));
  node.inputs.emplace_back(integers(kI32, context, {sequences}));
  node.inputs.emplace_back(integers(kI32, table, {sequences, width}));
  return node;
}

int64_t integer(const Node& node, const char* name) { return std::get<int64_t>(node.attributes.at(name)); }

}  // namespace

int64_t pick(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

bool chance(Random& random, double probability) { return std::bernoulli_distribution(probability)(random); }

void fill(Random& random, Value& value) {
  const int64_t count = value.bytes() / width_of(value.type);
  uint64_t state = random() | 1;  // xorshift: several times as fast as the generator of everything else
  for (int64_t i = 0; i < count; ++i) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    const uint64_t bits = state >> 8;
    switch (value.type) {
      case kF32: value.as<float>()[i] = static_cast<float>(static_cast<int64_t>(bits % 2001) - 1000) * 1e-3f; break;
      case kF16:  // 0.25 to 1 as float16, 3e-5 to 0.5 as bfloat16, of either sign
        value.as<uint16_t>()[i] = static_cast<uint16_t>(0x3400 + bits % 0x800 + (bits >> 40 & 0x8000));
        break;
      case kI32: value.as<int32_t>()[i] = static_cast<int32_t>(bits % 4); break;
      case kI64: value.as<int64_t>()[i] = static_cast<int64_t>(bits % 4); break;
      case kI8: value.as<int8_t>()[i] = static_cast<int8_t>(static_cast<int64_t>(bits % 255) - 127); break;
      default: value.as<uint8_t>()[i] = static_cast<uint8_t>(bits);
    }
  }
}

Node random_node(Random& random) {
  using Make = Node (*)(Random&);
  static constexpr Make all[] = {embedding, linear, attention, moe, head};
  return all[pick(random, 0, std::size(all) - 1)](random);
}

std::vector<Shape> expected_shapes(const Node& node) {
  const auto rows = [&](size_t input) { return node.inputs[input]->shape[0]; };
  if (node.op == "Embedding") return {{rows(0), integer(node, "k")}};
  if (node.op == "MoE") return {{rows(0), integer(node, "hidden")}};
  if (node.op == "Attention") return {{rows(0), integer(node, "num_heads") * integer(node, "head_dim")}};
  const int64_t n = integer(node, "n");
  if (node.op == "Head") {
    const int64_t top_k = *node.inputs[3]->as<int32_t>();
    return {{rows(1), n}, {rows(1), top_k}, {rows(1), top_k}, {top_k > 0 ? rows(1) : 0}};
  }
  const auto activation = node.attributes.find("activation");
  const bool swiglu = activation != node.attributes.end() && std::get<std::string>(activation->second) == "swiglu";
  return {{rows(0), swiglu ? n / 2 : n}};
}

}  // namespace fuzz
