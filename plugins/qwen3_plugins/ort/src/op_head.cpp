// qwen3::Head: the rows asked for, final RMSNorm, the language model head, and the largest logits of each row.
#include <algorithm>
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
  enum Input { kX, kLogitsRows, kLiveVocab, kTopK, kNormWeight, kCodes, kScales };
  static constexpr Port kInputs[] = {{"x", Element::f32},
                                     {"logits_rows", Element::i32},
                                     {"live_vocab", Element::i32},  // logits from here on are -inf
                                     {"top_k", Element::i32},       // 0: the other outputs are empty
                                     {"norm_weight", Element::f32},
                                     {"codes", Element::u8},
                                     {"scales", Element::any, true}};
  static constexpr Port kOutputs[] = {{"logits", Element::f32},
                                      {"values", Element::f32},
                                      {"ids", Element::i32},
                                      {"log_sum_exp", Element::f32}};

  explicit Head(const Attributes& attributes)
      : layout_(linear::weights_of(attributes.text("format", ""), attributes.integer(limits::kN),
                                   attributes.integer(limits::kK), attributes.integer(limits::kGroupSize, 0))),
        epsilon_(attributes.real(limits::kEpsilon, 1e-6f)),
        quantized_activations_(attributes.integer(limits::kPrecise, 0) == 0) {}

  void compute(Context& context) const {
    const Tensor x = context.input(kX), rows = context.input(kLogitsRows), norm = context.input(kNormWeight);
    const int64_t live = number(context, kLiveVocab, 1, layout_.n), top_k = number(context, kTopK, 0, live);
    require_shape(x, "x", {-1, layout_.k});
    require_shape(rows, "logits_rows", {-1});
    require_shape(norm, "norm_weight", {layout_.k});
    linear::Weights weights = linear::bind(layout_, context.input(kCodes), context.input(kScales), 1);
    check_scales_(weights);
    const int64_t count = within(limits::kRows, rows.shape[0]);
    Scratch<float> gathered("the rows of x", {count, layout_.k});
    gather(x, rows, gathered.get());
    linear::Call call;
    call.weights = &weights;
    call.x = gathered.get();
    call.rows = count;
    call.norm_weight = norm.as<const float>();
    call.epsilon = epsilon_;
    call.quantized_activations = quantized_activations_;
    call.y = context.output(0, {count, layout_.n}).as<float>();
    linear::run(call, context.parallel(), instructions());
    for (int64_t row = 0; row < count; ++row)
      std::fill(call.y + row * layout_.n + live, call.y + (row + 1) * layout_.n, -INFINITY);
    give_top(context, call.y, count, live, top_k);
  }

 private:
  static int64_t number(Context& context, Input input, int64_t lowest, int64_t highest) {
    const char* name = kInputs[input].name;
    const Tensor tensor = context.input(input);
    require_shape(tensor, name, {});
    return within(Limit{name, lowest, highest}, *tensor.as<const int32_t>());
  }

  void gather(const Tensor& x, const Tensor& rows, float* to) const {
    for (int64_t i = 0; i < rows.shape[0]; ++i, to += layout_.k) {
      const int32_t row = rows.as<const int32_t>()[i];
      if (row < 0 || row >= x.shape[0])
        throw Refused("logits_rows names row " + std::to_string(row) + ", x has " + std::to_string(x.shape[0]));
      std::memcpy(to, x.as<const float>() + row * layout_.k, sizeof(float) * static_cast<size_t>(layout_.k));
    }
  }

  void give_top(Context& context, const float* logits, int64_t rows, int64_t live, int64_t top_k) const {
    const int64_t summed = top_k > 0 ? rows : 0;
    const Parallel parallel = context.parallel();
    float* values = context.output(1, {rows, top_k}).as<float>();
    int32_t* ids = context.output(2, {rows, top_k}).as<int32_t>();
    float* log_sum_exp = context.output(3, {summed}).as<float>();
    if (summed > 0)
      head::find_top(logits, rows, layout_.n, live, top_k, values, ids, log_sum_exp, parallel, instructions());
  }

  linear::Weights layout_;
  float epsilon_;
  bool quantized_activations_;
  mutable linear::ScaleCheck check_scales_;
};

}  // namespace

const OrtCustomOp* head_op() {
  static const OrtCustomOp op = custom_op<Head>();
  return &op;
}

}  // namespace qwen3
