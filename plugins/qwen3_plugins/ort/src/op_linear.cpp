// qwen3::Linear: y = activation(RMSNorm(x) @ weights.T) + residual, on packed weights.
#include "cpu.h"
#include "linear/layout.h"
#include "linear/linear.h"
#include "operator.h"

namespace qwen3 {

namespace {

linear::Activation activation_of(const std::string& name) {
  if (name == "none") return linear::Activation::none;
  if (name == "swiglu") return linear::Activation::swiglu;
  throw Refused("activation is '" + name + "', expected none or swiglu");
}

class Linear {
 public:
  static constexpr const char* kName = "Linear";
  enum Input { kX, kCodes, kScales, kNormWeight, kResidual };
  static constexpr Port kInputs[] = {{"x", Element::f32},
                                     {"codes", Element::u8},
                                     {"scales", Element::any, true},
                                     {"norm_weight", Element::f32, true},
                                     {"residual", Element::f32, true}};
  static constexpr Port kOutputs[] = {{"y", Element::f32}};

  explicit Linear(const Attributes& attributes)
      : layout_(linear::weights_of(attributes.text("format", ""), attributes.integer(limits::kN),
                                   attributes.integer(limits::kK), attributes.integer(limits::kGroupSize, 0))),
        epsilon_(attributes.real(limits::kEpsilon, 1e-6f)),
        activation_(activation_of(attributes.text("activation", "none"))),
        quantized_activations_(attributes.integer(limits::kPrecise, 0) == 0) {
    if (activation_ == linear::Activation::swiglu) {
      if (layout_.n % 2 != 0)
        throw Refused("n is " + std::to_string(layout_.n) + ", swiglu needs gate and up: an even n");
      layout_ = linear::gate_up(layout_);
    }
  }

  void compute(Context& context) const {
    const Tensor x = context.input(kX), codes = context.input(kCodes), scales = context.input(kScales),
                 norm = context.input(kNormWeight), residual = context.input(kResidual);
    require_shape(x, "x", {-1, layout_.k});
    linear::Weights weights = linear::bind(layout_, codes, scales, 1);
    check_scales_(weights);
    const int64_t width = linear::outputs(weights, activation_), rows = within(limits::kRows, x.shape[0]);
    if (norm) require_shape(norm, "norm_weight", {layout_.k});
    if (residual) require_shape(residual, "residual", {rows, width});
    linear::Call call;
    call.weights = &weights;
    call.x = x.as<const float>();
    call.rows = rows;
    call.norm_weight = norm.as<const float>();
    call.epsilon = epsilon_;
    call.residual = residual.as<const float>();
    call.activation = activation_;
    call.quantized_activations = quantized_activations_;
    call.y = context.output(0, {rows, width}).as<float>();
    linear::run(call, context.parallel(), instructions());
  }

 private:
  linear::Weights layout_;
  float epsilon_;
  linear::Activation activation_;
  bool quantized_activations_;
  mutable linear::ScaleCheck check_scales_;
};

}  // namespace

const OrtCustomOp* linear_op() {
  static const OrtCustomOp op = custom_op<Linear>();
  return &op;
}

}  // namespace qwen3
