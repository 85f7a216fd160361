// qwen3::Attention: QK-norm, rotary embedding, append to the paged cache in place, causal grouped-query attention.
#include "attention/attention.h"
#include "cpu.h"
#include "operator.h"

namespace qwen3 {

namespace {

class Attention {
 public:
  static constexpr const char* kName = "Attention";
  enum Input { kQkv, kQNorm, kKNorm, kCos, kSin, kKv, kKvScales, kQueryStart, kContextLen, kBlockTable };
  static constexpr Port kInputs[] = {{"qkv", Element::f32},         {"q_norm", Element::f32},
                                     {"k_norm", Element::f32},      {"cos", Element::f32},
                                     {"sin", Element::f32},         {"kv", Element::any},
                                     {"kv_scales", Element::f32, true}, {"query_start", Element::i32},
                                     {"context_len", Element::i32}, {"block_table", Element::i32}};
  static constexpr Port kOutputs[] = {{"out", Element::f32}};

  explicit Attention(const Attributes& attributes)
      : heads_(attributes.integer(limits::kHeads)),
        kv_heads_(attributes.integer(limits::kKvHeads)),
        head_dim_(attributes.integer(limits::kHeadDim)),
        epsilon_(attributes.real(limits::kEpsilon, 1e-6f)) {
    attention::check_heads(heads_, kv_heads_, head_dim_);
    attributes.require_fed(kKv, kInputs[kKv].name);
    attributes.require_fed(kKvScales, kInputs[kKvScales].name);
  }

  void compute(Context& context) const {
    attention::Step step{};
    step.cache = cache_of(context.input(kKv), context.input(kKvScales));
    const Tensor qkv = context.input(kQkv), q_norm = context.input(kQNorm), k_norm = context.input(kKNorm),
                 cosine = context.input(kCos), sine = context.input(kSin), start = context.input(kQueryStart),
                 length = context.input(kContextLen), table = context.input(kBlockTable);
    require_shape(qkv, "qkv", {-1, (heads_ + 2 * kv_heads_) * head_dim_});
    require_shape(q_norm, "q_norm", {head_dim_});
    require_shape(k_norm, "k_norm", {head_dim_});
    require_shape(cosine, "cos", {-1, head_dim_ / 2});
    require_shape(sine, "sin", {cosine.shape[0], head_dim_ / 2});
    require_shape(length, "context_len", {-1});
    require_shape(start, "query_start", {length.shape[0] + 1});
    require_shape(table, "block_table", {length.shape[0], -1});
    step.qkv = qkv.as<const float>();
    step.q_norm = q_norm.as<const float>();
    step.k_norm = k_norm.as<const float>();
    step.cosine = cosine.as<const float>();
    step.sine = sine.as<const float>();
    step.query_start = start.as<const int32_t>();
    step.context_len = length.as<const int32_t>();
    step.block_table = table.as<const int32_t>();
    step.tokens = qkv.shape[0];
    step.sequences = length.shape[0];
    step.table_width = table.shape[1];
    step.positions = cosine.shape[0];
    step.heads = heads_;
    step.epsilon = epsilon_;
    attention::check(step);
    step.out = context.output(0, {step.tokens, heads_ * head_dim_}).as<float>();
    attention::run(step, context.parallel(), instructions());
  }

 private:
  // The cache is an input that is written: whoever binds it keeps it, nothing is copied.
  attention::Cache cache_of(const Tensor& kv, const Tensor& scales) const {
    require_shape(kv, "kv", {-1, 2, kv_heads_, -1, head_dim_});
    if (kv.element != Element::f16 && kv.element != Element::i8)
      throw Refused("kv is " + kv.describe() + ", expected float16 or int8");
    const bool int8 = kv.element == Element::i8;
    if (int8 != static_cast<bool>(scales))
      throw Refused(int8 ? "kv is int8: kv_scales is missing" : "kv is float16: kv_scales is not expected");
    if (int8) require_shape(scales, "kv_scales", {kv.shape[0], 2, kv_heads_, kv.shape[3]});
    return {kv.data,     scales.as<float>(), int8 ? attention::CacheType::kInt8 : attention::CacheType::kHalf,
            kv.shape[0], kv_heads_,          kv.shape[3],
            head_dim_};
  }

  int64_t heads_, kv_heads_, head_dim_;
  float epsilon_;
};

}  // namespace

const OrtCustomOp* attention_op() {
  static const OrtCustomOp op = custom_op<Attention>();
  return &op;
}

}  // namespace qwen3
