// Random nodes, most of them damaged, until the time is up: fuzz LIBRARY SECONDS SEED [CASE].
//
// A node as it should be must be accepted. A damaged one must be refused, with a message and without having written to
// the cache, or give outputs of the right shapes, every value written. Anything else ends the run, and so does whatever
// AddressSanitizer and UndefinedBehaviorSanitizer report: with the node, and with how to run it again.
#include <sanitizer/common_interface_defs.h>
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

#include "damage.h"
#include "nodes.h"

namespace fuzz {
namespace {

struct Current {
  uint64_t seed = 0, index = 0;
  const Node* node = nullptr;
};
Current current;

struct Count {
  uint64_t whole = 0, accepted = 0, refused = 0;
};

std::string text(const Shape& shape) {
  std::string all;
  for (const int64_t size : shape) all += (all.empty() ? "" : ", ") + std::to_string(size);
  return "[" + all + "]";
}

void describe() {
  std::fprintf(stderr, "\nfound: run it again with scripts/fuzz --seed %" PRIu64 " --case %" PRIu64 "\n", current.seed,
               current.index);
  if (current.node == nullptr) return;
  std::fprintf(stderr, "%s\n", current.node->op.c_str());
  for (const auto& [name, value] : current.node->attributes) {
    if (const auto* integer = std::get_if<int64_t>(&value)) {
      std::fprintf(stderr, "  %s = %" PRId64 "\n", name.c_str(), *integer);
    } else if (const auto* real = std::get_if<float>(&value)) {
      std::fprintf(stderr, "  %s = %g\n", name.c_str(), static_cast<double>(*real));
    } else if (const auto* string = std::get_if<std::string>(&value)) {
      std::fprintf(stderr, "  %s = '%s'\n", name.c_str(), string->c_str());
    } else {
      std::fprintf(stderr, "  %s is a list\n", name.c_str());
    }
  }
  for (size_t i = 0; i < current.node->inputs.size(); ++i) {
    const std::optional<Value>& input = current.node->inputs[i];
    if (input) std::fprintf(stderr, "  input %zu: type %d %s\n", i, input->type, text(input->shape).c_str());
  }
}

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "error: %s\n", why.c_str());
  describe();
  std::exit(1);
}

std::string bytes_of(const Node& node, size_t index) {
  if (index >= node.inputs.size() || !node.inputs[index]) return "";
  const Value& value = *node.inputs[index];
  return std::string(reinterpret_cast<const char*>(value.data.get()), static_cast<size_t>(value.bytes()));
}

// Outputs are floats or ids; both were filled with bits that are neither a number nor an id.
void check_values(const Node& node) {
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const Value& output = node.outputs[i];
    const int64_t count = elements_of(output.shape);
    for (int64_t at = 0; at < count; ++at) {
      const float value = output.as<float>()[at];
      if (node.op == "Head" && i == 0 && value == -INFINITY) continue;  // beyond live_vocab
      if (node.op == "Head" && i == 2) {
        if (output.as<int32_t>()[at] < 0 || output.as<int32_t>()[at] >= *node.inputs[2]->as<int32_t>())
          fail("id " + std::to_string(output.as<int32_t>()[at]) + " is not of the vocabulary");
      } else if (!std::isfinite(value)) {
        fail("value " + std::to_string(at) + " of output " + std::to_string(i) + " is not finite");
      }
    }
  }
}

void run_case(const Operators& operators, Random& random, std::map<std::string, Count>& counts) {
  Node node = random_node(random);
  current.node = &node;
  node.order = &random;
  const bool whole = chance(random, 0.2);
  const bool finite = whole || damage(random, node);
  const bool caches = node.op == "Attention";
  const std::string cache = caches ? bytes_of(node, 5) + bytes_of(node, 6) : "";
  Count& count = counts[node.op];
  const std::optional<std::string> refusal = run(*operators.at(node.op), node);
  if (whole) ++count.whole;
  if (refusal) {
    ++count.refused;
    if (whole) fail("a node as it should be was refused: " + *refusal);
    if (refusal->size() < 10) fail("the refusal says nothing: '" + *refusal + "'");
    if (caches && bytes_of(node, 5) + bytes_of(node, 6) != cache) fail("the cache was written before the refusal");
  } else {
    ++count.accepted;
    const std::vector<Shape> shapes = expected_shapes(node);
    if (shapes.size() != node.outputs.size()) fail("there are " + std::to_string(node.outputs.size()) + " outputs");
    for (size_t i = 0; i < shapes.size(); ++i)
      if (node.outputs[i].shape != shapes[i])
        fail("output " + std::to_string(i) + " is " + text(node.outputs[i].shape) + ", expected " + text(shapes[i]));
    if (finite) check_values(node);
  }
  current.node = nullptr;
}

// Damage must take whatever an operator may have one day: no attributes, absent inputs, axes of nothing.
void check_damage() {
  Random random(0);
  for (int i = 0; i < 1000; ++i) {
    Node bare{"Bare", {}, {}, {}};
    bare.inputs.emplace_back();
    bare.inputs.emplace_back(Value(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {}));
    damage(random, bare);
  }
}

}  // namespace
}  // namespace fuzz

int main(int count, char** arguments) {
  using namespace fuzz;
  using Clock = std::chrono::steady_clock;
  if (count < 4 || count > 5) {
    std::fprintf(stderr, "usage: fuzz LIBRARY SECONDS SEED [CASE]\n");
    return 2;
  }
  const Operators operators = load(arguments[1]);
  const double seconds = std::stod(arguments[2]);
  check_damage();
  current.seed = std::stoull(arguments[3]);
  const bool one = count == 5;
  if (one) current.index = std::stoull(arguments[4]);
  __sanitizer_set_death_callback(describe);  // of AddressSanitizer; the other one aborts
  std::signal(SIGABRT, [](int) {
    describe();
    _exit(1);
  });

  std::map<std::string, Count> counts;
  const Clock::time_point begin = Clock::now();
  double spent = 0;
  uint64_t cases = 0;
  do {
    std::seed_seq seeds{current.seed, current.seed >> 32, current.index, current.index >> 32};
    Random random(seeds);
    run_case(operators, random, counts);
    ++cases;
    ++current.index;
    spent = std::chrono::duration<double>(Clock::now() - begin).count();
  } while (!one && spent < seconds);

  std::printf("seed %" PRIu64 ": %" PRIu64 " cases in %.0f s, %.0f a second\n", current.seed, cases, spent,
              static_cast<double>(cases) / spent);
  for (const auto& [name, of] : counts) {
    std::printf("  %-9s accepted %8" PRIu64 " (%" PRIu64 " undamaged), refused %8" PRIu64 "\n", name.c_str(),
                of.accepted, of.whole, of.refused);
    // A run that meets only one of both looks at half of the code.
    if (!one && cases > 1000 && (of.whole == 0 || of.refused == 0)) return 1;
  }
  return 0;
}
