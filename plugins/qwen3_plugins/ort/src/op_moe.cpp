// qwen3::MoE: RMSNorm, router, softmax, top-k, the chosen experts' SwiGLU, and their weighted sum plus residual.
#include <memory>

#include "cpu.h"
#include "linear/layout.h"
#include "moe/moe.h"
#include "operator.h"

namespace qwen3 {

namespace {

class MoE {
 public:
  static constexpr const char* kName = "MoE";
  enum Input { kX, kNormWeight, kRouter, kGateUp, kGateUpScales, kDown, kDownScales, kResidual };
  static constexpr Port kInputs[] = {{"x", Element::f32},
                                     {"norm_weight", Element::f32, true},
                                     {"router", Element::u8},
                                     {"gate_up", Element::u8},
                                     {"gate_up_scales", Element::any, true},
                                     {"down", Element::u8},
                                     {"down_scales", Element::any, true},
                                     {"residual", Element::f32, true}};
  static constexpr Port kOutputs[] = {{"y", Element::f32}};

  explicit MoE(const Attributes& attributes) : epsilon_(attributes.real(limits::kEpsilon, 1e-6f)) {
    const int64_t hidden = attributes.integer(limits::kHidden);
    const int64_t intermediate = attributes.integer(limits::kIntermediate);
    const int64_t group_size = attributes.integer(limits::kGroupSize, 0);
    const std::string format = attributes.text("format", "");
    layout_.count = attributes.integer(limits::kExperts);
    layout_.top_k = within(Limit{limits::kTopK.name, 1, layout_.count}, attributes.integer(limits::kTopK));
    layout_.normalize = attributes.integer(limits::kNormalize, 1) != 0;
    layout_.quantized_activations = attributes.integer(limits::kPrecise, 0) == 0;
    layout_.down = linear::weights_of(format, hidden, intermediate, group_size);
    layout_.gate_up = linear::gate_up(linear::weights_of(format, 2 * intermediate, hidden, group_size));
    layout_.router = linear::weights_of(attributes.text("router_format", "fp32"), layout_.count, hidden, 0);
    if (layout_.router.scaling != linear::Scaling::none) throw Refused("router_format: expected fp32, fp16 or bf16");
    checks_ = std::make_unique<ScaleChecks[]>(static_cast<size_t>(layout_.count));
  }

  void compute(Context& context) const {
    const Tensor x = context.input(kX), norm = context.input(kNormWeight), residual = context.input(kResidual);
    const int64_t hidden = layout_.hidden();
    require_shape(x, "x", {-1, hidden});
    const int64_t rows = within(limits::kRows, x.shape[0]);
    if (norm) require_shape(norm, "norm_weight", {hidden});
    if (residual) require_shape(residual, "residual", {rows, hidden});
    Reading reading{this, layout_};
    moe::Experts& experts = reading.experts;
    experts.router = linear::bind(layout_.router, context.input(kRouter), Tensor{}, 1);
    experts.gate_up =
        linear::bind(layout_.gate_up, context.input(kGateUp), context.input(kGateUpScales), layout_.count);
    experts.down = linear::bind(layout_.down, context.input(kDown), context.input(kDownScales), layout_.count);
    moe::Call call;
    call.experts = &experts;
    call.x = x.as<const float>();
    call.rows = rows;
    call.norm_weight = norm.as<const float>();
    call.epsilon = epsilon_;
    call.residual = residual.as<const float>();
    call.y = context.output(0, {rows, hidden}).as<float>();
    call.before_reading = [](void* user, int64_t expert) {
      const Reading& now = *static_cast<const Reading*>(user);
      now.op->require_finite(now.experts, expert);
    };
    call.user = &reading;
    moe::run(call, context.parallel(), instructions());
  }

 private:
  struct ScaleChecks {
    linear::ScaleCheck gate_up, down;
  };

  struct Reading {
    const MoE* op;
    moe::Experts experts;
  };

  // An expert's scales are looked at when it is first chosen: looking at all would read what no step needs.
  void require_finite(const moe::Experts& experts, int64_t expert) const {
    ScaleChecks& checks = checks_[static_cast<size_t>(expert)];
    checks.gate_up(experts.gate_up.at(expert));
    checks.down(experts.down.at(expert));
  }

  moe::Experts layout_;
  float epsilon_;
  std::unique_ptr<ScaleChecks[]> checks_;  // by expert
};

}  // namespace

const OrtCustomOp* moe_op() {
  static const OrtCustomOp op = custom_op<MoE>();
  return &op;
}

}  // namespace qwen3
