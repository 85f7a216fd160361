#include "moe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "../sizes.h"

namespace qwen3::moe {

namespace {

using linear::Activations;
using linear::kPanel;
using linear::Weights;

constexpr int64_t kTasksPerThread = 8;

// Activations that one thread prepares sooner than others could be woken.
constexpr int64_t kWorthSharing = 32 << 10;

// Elements of a matrix of floats.
size_t elements(const char* what, int64_t rows, int64_t columns) {
  return static_cast<size_t>(product(what, {rows, columns, sizeof(float)})) / sizeof(float);
}

int64_t tasks_wanted(const Parallel& parallel) { return parallel.threads > 1 ? parallel.threads * kTasksPerThread : 1; }

// Tokens grouped by expert.
struct Groups {
  std::vector<int32_t> experts;  // those with at least one token, ascending
  std::vector<int32_t> begin;    // [experts + 1]: where each one's assignments begin
  std::vector<int32_t> tokens;   // of each assignment
  std::vector<float> weights;    // of each assignment
};

Groups group(const Experts& experts, const std::vector<int32_t>& picks, const std::vector<float>& weights) {
  Groups groups;
  std::vector<int32_t> next(static_cast<size_t>(experts.count) + 1);
  for (const int32_t expert : picks) ++next[static_cast<size_t>(expert) + 1];
  for (size_t e = 0; e < static_cast<size_t>(experts.count); ++e) {
    if (next[e + 1] != 0) {
      groups.experts.push_back(static_cast<int32_t>(e));
      groups.begin.push_back(next[e]);
    }
    next[e + 1] += next[e];
  }
  groups.begin.push_back(static_cast<int32_t>(picks.size()));
  groups.tokens.resize(picks.size());
  groups.weights.resize(picks.size());
  for (size_t i = 0; i < picks.size(); ++i) {
    const size_t at = static_cast<size_t>(next[static_cast<size_t>(picks[i])]++);
    groups.tokens[at] = static_cast<int32_t>(i / static_cast<size_t>(experts.top_k));
    groups.weights[at] = weights[i];
  }
  return groups;
}

// The rows of each active expert as tiles, all of them made on the pool.
class Batches {
 public:
  // `rows` picks rows of x for each assignment; null takes them in order.
  Batches(const Weights& weights, const Groups& groups, bool quantized_activations, const float* x, const int32_t* rows,
          const Parallel& parallel, InstructionSet instructions) {
    std::vector<std::pair<size_t, int64_t>> tiles;
    for (size_t i = 0; i < groups.experts.size(); ++i) {
      batches_.push_back(std::make_unique<Activations>(weights, groups.begin[i + 1] - groups.begin[i],
                                                       quantized_activations, instructions));
      for (int64_t t = 0; t < batches_[i]->tiles(); ++t) tiles.emplace_back(i, t);
    }
    const bool few = groups.begin.back() * weights.k < kWorthSharing;
    for_each(few ? serial() : parallel, tiles.size(), [&](size_t index) {
      const auto [i, t] = tiles[index];
      const int32_t first = groups.begin[i];
      if (rows != nullptr)
        batches_[i]->fill(t, x, rows + first, nullptr, 0);
      else
        batches_[i]->fill(t, x + first * weights.k, nullptr, nullptr, 0);
    });
  }
  const Activations& operator[](size_t i) const { return *batches_[i]; }

 private:
  std::vector<std::unique_ptr<Activations>> batches_;
};

// inner[assignment] = silu(gate(x)) * up(x)
void expand(const Experts& experts, const Groups& groups, const Batches& batches, const Parallel& parallel,
            InstructionSet instructions, float* inner) {
  const int64_t active = static_cast<int64_t>(groups.experts.size());
  const int64_t pairs = experts.gate_up.panels() / 2;
  const int64_t chunks = std::min(pairs, (tasks_wanted(parallel) + active - 1) / active);
  for_each(parallel, static_cast<size_t>(active * chunks), [&](size_t index) {
    const size_t i = index / static_cast<size_t>(chunks);
    const int64_t chunk = static_cast<int64_t>(index) % chunks;
    const Activations& x = batches[i];
    linear::multiply(experts.gate_up.at(groups.experts[i]), x, 0, x.tiles(), pairs * chunk / chunks * 2,
                     pairs * (chunk + 1) / chunks * 2, linear::Activation::swiglu, experts.quantized_activations,
                     nullptr, inner + groups.begin[i] * experts.intermediate(), instructions);
  });
}

// y[token] += weight * down(inner). A task owns columns of y, so that no two write to the same place and sums have
// one order.
void contract(const Call& call, const Groups& groups, const Batches& batches, const Parallel& parallel,
              InstructionSet instructions) {
  const Experts& experts = *call.experts;
  const int64_t panels = experts.down.panels(), hidden = experts.hidden();
  const int64_t chunks = std::min(panels, tasks_wanted(parallel));
  for_each(parallel, static_cast<size_t>(chunks), [&](size_t index) {
    const int64_t first = panels * static_cast<int64_t>(index) / chunks;
    const int64_t last = panels * (static_cast<int64_t>(index) + 1) / chunks;
    const int64_t left = first * kPanel, right = std::min(last * kPanel, hidden);
    for (int64_t row = 0; row < call.rows; ++row)
      for (int64_t c = left; c < right; ++c)
        call.y[row * hidden + c] = call.residual != nullptr ? call.residual[row * hidden + c] : 0.0f;
    alignas(64) float out[linear::kMaxRows * kPanel];
    for (size_t i = 0; i < groups.experts.size(); ++i) {
      const Weights weights = experts.down.at(groups.experts[i]);
      for (int64_t panel = first; panel < last; ++panel) {
        const int count = static_cast<int>(std::min<int64_t>(kPanel, hidden - panel * kPanel));
        for (int64_t t = 0; t < batches[i].tiles(); ++t) {
          const linear::Tile tile = batches[i].tile(t);
          linear::multiply_panel(weights, tile, panel, experts.quantized_activations, instructions, out);
          for (int r = 0; r < tile.rows; ++r) {
            const size_t at = static_cast<size_t>(groups.begin[i] + batches[i].tile_begin(t) + r);
            float* y = call.y + groups.tokens[at] * hidden + panel * kPanel;
            for (int c = 0; c < count; ++c) y[c] += groups.weights[at] * out[r * kPanel + c];
          }
        }
      }
    }
  });
}

}  // namespace

void choose(const float* logits, int64_t rows, int64_t count, int64_t top_k, bool normalize, int32_t* picks,
            float* weights) {
  std::vector<bool> taken(static_cast<size_t>(count));
  for (int64_t row = 0; row < rows; ++row, logits += count, picks += top_k, weights += top_k) {
    std::fill(taken.begin(), taken.end(), false);
    for (int64_t j = 0; j < top_k; ++j) {
      int64_t best = -1;  // some expert even where logits are NaN
      for (int64_t e = 0; e < count; ++e)
        if (!taken[static_cast<size_t>(e)] && (best < 0 || logits[e] > logits[best])) best = e;
      taken[static_cast<size_t>(best)] = true;
      picks[j] = static_cast<int32_t>(best);
    }
    // Relative to the largest, the first pick.
    const float largest = logits[picks[0]];
    float sum = 0;
    for (int64_t j = 0; j < top_k; ++j) sum += weights[j] = std::exp(logits[picks[j]] - largest);
    if (!normalize) {
      sum = 0;
      for (int64_t e = 0; e < count; ++e) sum += std::exp(logits[e] - largest);
    }
    for (int64_t j = 0; j < top_k; ++j) weights[j] /= sum;
  }
}

void run(const Call& call, const Parallel& parallel, InstructionSet instructions) {
  if (call.rows == 0) return;
  const Experts& experts = *call.experts;
  const size_t rows = static_cast<size_t>(call.rows);
  // Assignments of tokens to experts are counted in 32 bits.
  const size_t assignments =
      static_cast<size_t>(product("rows times top_k", {call.rows, experts.top_k}, std::numeric_limits<int32_t>::max()));
  const linear::Kernels& table = linear::kernels(instructions);

  std::vector<float> normed;
  const float* x = call.x;
  if (call.norm_weight != nullptr) {
    normed.resize(elements("rows of x", call.rows, experts.hidden()));
    for_each(rows < 16 ? serial() : parallel, rows, [&](size_t row) {
      const int64_t at = static_cast<int64_t>(row) * experts.hidden();
      table.normalize(call.x + at, call.norm_weight, experts.hidden(), call.epsilon, normed.data() + at);
    });
    x = normed.data();
  }

  std::vector<float> logits(elements("logits of the router", call.rows, experts.count));
  linear::Call router;
  router.weights = &experts.router;
  router.x = x;
  router.rows = call.rows;
  router.y = logits.data();
  linear::run(router, parallel, instructions);

  std::vector<int32_t> picks(assignments);
  std::vector<float> weights(assignments);
  choose(logits.data(), call.rows, experts.count, experts.top_k, experts.normalize, picks.data(), weights.data());
  const Groups groups = group(experts, picks, weights);
  if (call.before_reading != nullptr)
    for (const int32_t expert : groups.experts) call.before_reading(call.user, expert);

  std::vector<float> inner(elements("inner activations", static_cast<int64_t>(assignments), experts.intermediate()));
  {
    const Batches batches(experts.gate_up, groups, experts.quantized_activations, x, groups.tokens.data(), parallel,
                          instructions);
    expand(experts, groups, batches, parallel, instructions, inner.data());
  }
  const Batches batches(experts.down, groups, experts.quantized_activations, inner.data(), nullptr, parallel,
                        instructions);
  contract(call, groups, batches, parallel, instructions);
}

}  // namespace qwen3::moe
