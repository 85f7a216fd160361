// How everything below the operators says that it cannot take what it was given.
#pragma once

#include <stdexcept>

namespace qwen3 {

// An attribute or input that the operator cannot take; the message says what was expected and what was found.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace qwen3
