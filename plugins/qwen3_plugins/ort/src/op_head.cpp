// qwen3::Head: the rows asked for, final RMSNorm, and the language model head: all logits, or the largest of each row.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "cpu.h"
#include "head/top.h"
#include "linear/layout.h"
#include "linear/linear.h"
#include "operator.h"

namespace qwen3 {

namespace {

class Head {
 public:
  static constexpr const char* kName = "Head";
  enum Input { kX, kLogitsRows, kNormWeight, kCodes, kScales };
  static constexpr Port kInputs[] = {{"x", Element::f32},
                                     {"logits_rows", Element::i32},
                                     {"norm_weight", Element::f32},
                                     {"codes", Element::u8},
                                     {"scales", Element::any, true}};
  // Without top_k, the first output is the logits and there are no others.
  static constexpr Port kOutputs[] = {
      {"values", Element::f32}, {"ids", Element::i32, true}, {"log_sum_exp", Element::f32, true}};

  explicit Head(const Attributes& attributes)
      : layout_(linear::weights_of(attributes.text("format", ""), attributes.integer("n"), attributes.integer("k"),
                                   attributes.integer("group_size", 0))),
        live_(attributes.integer("live_vocab", layout_.n)),
        top_k_(attributes.integer("top_k", 0)),
        epsilon_(attributes.real("epsilon", 1e-6f)),
        precise_(attributes.integer("precise", 0) != 0) {
    if (live_ < 1 || live_ > layout_.n)
      throw Refused("live_vocab is " + std::to_string(live_) + ", expected 1 to " + std::to_string(layout_.n));
    if (top_k_ < 0 || top_k_ > live_)
      throw Refused("top_k is " + std::to_string(top_k_) + ", expected 0 (all logits) to " + std::to_string(live_));
  }

  void compute(Context& context) const {
    const Tensor x = context.input(kX), rows = context.input(kLogitsRows), norm = context.input(kNormWeight);
    require_shape(x, "x", {-1, layout_.k});
    require_shape(rows, "logits_rows", {-1});
    require_shape(norm, "norm_weight", {layout_.k});
    linear::Weights weights = linear::bind(layout_, context.input(kCodes), context.input(kScales), 1);
    if (checked_.load(std::memory_order_relaxed) != weights.scales) {
      linear::require_finite_scales(weights, 0, weights.panels());
      checked_.store(weights.scales, std::memory_order_relaxed);
    }
    const int64_t count = rows.shape[0];
    Scratch<float> gathered(static_cast<size_t>(count * layout_.k));
    gather(x, rows, gathered.get());
    linear::Call call;
    call.weights = &weights;
    call.x = gathered.get();
    call.rows = count;
    call.norm_weight = norm.as<const float>();
    call.epsilon = epsilon_;
    call.precise = precise_;
    top_k_ == 0 ? give_logits(context, call) : give_top(context, call, weights);
  }

 private:
  void gather(const Tensor& x, const Tensor& rows, float* to) const {
    for (int64_t i = 0; i < rows.shape[0]; ++i, to += layout_.k) {
      const int32_t row = rows.as<const int32_t>()[i];
      if (row < 0 || row >= x.shape[0])
        throw Refused("logits_rows names row " + std::to_string(row) + ", x has " + std::to_string(x.shape[0]));
      std::memcpy(to, x.as<const float>() + row * layout_.k, sizeof(float) * static_cast<size_t>(layout_.k));
    }
  }

  void give_logits(Context& context, linear::Call& call) const {
    float* logits = context.output(0, {call.rows, layout_.n}).as<float>();
    call.y = logits;
    linear::run(call, context.parallel(), instructions());
    for (int64_t row = 0; row < call.rows; ++row)
      std::fill(logits + row * layout_.n + live_, logits + (row + 1) * layout_.n, -INFINITY);
  }

  void give_top(Context& context, linear::Call& call, linear::Weights& weights) const {
    weights.n = live_;  // rows beyond are not even read
    Scratch<float> logits(static_cast<size_t>(call.rows * live_));
    call.y = logits.get();
    float* values = context.output(0, {call.rows, top_k_}).as<float>();
    int32_t* ids = context.output(1, {call.rows, top_k_}).as<int32_t>();
    float* log_sum_exp = context.output(2, {call.rows}).as<float>();
    if (call.rows == 0) return;
    if (ids == nullptr || log_sum_exp == nullptr) throw Refused("with top_k, the outputs are values, ids and log_sum_exp");
    linear::run(call, context.parallel(), instructions());
    head::find_top(logits.get(), call.rows, live_, top_k_, values, ids, log_sum_exp, context.parallel(), instructions());
  }

  linear::Weights layout_;
  int64_t live_, top_k_;
  float epsilon_;
  bool precise_;
  mutable std::atomic<const void*> checked_{nullptr};  // scales that were found finite
};

}  // namespace

const OrtCustomOp* head_op() {
  static const OrtCustomOp op = custom_op<Head>();
  return &op;
}

}  // namespace qwen3
