// What is done to a node that is as it should be.
#pragma once

#include "stand_in.h"

namespace fuzz {

// Changes an attribute, a shape, a type or a value. Whether results must still be finite where the node is accepted.
bool damage(Random& random, Node& node);

}  // namespace fuzz
