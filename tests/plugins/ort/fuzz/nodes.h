// Random nodes of the five operators that are as they should be: accepted, and finite in every output.
#pragma once

#include "stand_in.h"

namespace fuzz {

// From `low` to `high`, both included.
int64_t pick(Random& random, int64_t low, int64_t high);
bool chance(Random& random, double probability);

// Values that make no result overflow, whatever the type and however the bytes are read.
void fill(Random& random, Value& value);

Node random_node(Random& random);

// The outputs of a node that was accepted.
std::vector<Shape> expected_shapes(const Node& node);

}  // namespace fuzz
