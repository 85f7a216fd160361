// qwen3::Embedding: rows of a packed matrix.
#include "head/embedding.h"
#include "linear/layout.h"
#include "operator.h"

namespace qwen3 {

namespace {

class Embedding {
 public:
  static constexpr const char* kName = "Embedding";
  enum Input { kIds, kCodes, kScales };
  static constexpr Port kInputs[] = {{"ids", Element::i64}, {"codes", Element::u8}, {"scales", Element::any, true}};
  static constexpr Port kOutputs[] = {{"out", Element::f32}};

  explicit Embedding(const Attributes& attributes)
      : layout_(linear::weights_of(attributes.text("format", ""), attributes.integer(limits::kN),
                                   attributes.integer(limits::kK), attributes.integer(limits::kGroupSize, 0))) {}

  void compute(Context& context) const {
    const Tensor ids = context.input(kIds);
    require_shape(ids, "ids", {-1});
    const linear::Weights weights = linear::bind(layout_, context.input(kCodes), context.input(kScales), 1);
    const int64_t* id = ids.as<const int64_t>();
    const int64_t count = within(limits::kRows, ids.shape[0]);
    for (int64_t i = 0; i < count; ++i) {
      if (id[i] < 0 || id[i] >= weights.n)
        throw Refused("id " + std::to_string(id[i]) + " at position " + std::to_string(i) +
                      " is not a row of the table of " + std::to_string(weights.n));
      // Of the rows that are read: the others' scales stay on the disk.
      linear::require_finite_scales(weights, id[i] / linear::kPanel, id[i] / linear::kPanel + 1);
    }
    float* out = context.output(0, {count, weights.k}).as<float>();
    constexpr int64_t kRows = 16;  // of one task
    const auto task = [&](size_t index) {
      const int64_t first = static_cast<int64_t>(index) * kRows;
      for (int64_t i = first; i < count && i < first + kRows; ++i) head::read_row(weights, id[i], out + i * weights.k);
    };
    for_each(context.parallel(), static_cast<size_t>((count + kRows - 1) / kRows), task);
  }

 private:
  linear::Weights layout_;
};

}  // namespace

const OrtCustomOp* embedding_op() {
  static const OrtCustomOp op = custom_op<Embedding>();
  return &op;
}

}  // namespace qwen3
