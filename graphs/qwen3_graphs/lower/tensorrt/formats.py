"""The weights that TensorRT and our plugins for it compute. Nothing here needs ONNX: a spec is checked against it."""

from qwen3_graphs.formats import WeightFormat, formats_in_groups
from qwen3_plugins.tensorrt.kernels.moe import GROUP_SIZES

# A floating-point matrix has the type of the activations.
EMBEDDINGS = (WeightFormat("fp16"), WeightFormat("bf16"))
MATRICES = (
    *EMBEDDINGS,
    *(WeightFormat("fp8"), WeightFormat("fp8", per_tensor=True), WeightFormat("int8")),
    *formats_in_groups("int4"),
)
# Of the plugin; one scale of a whole matrix is packed as that of each of its rows.
EXPERTS = (
    *(fmt for kind, sizes in GROUP_SIZES.items() for fmt in formats_in_groups(kind, sizes=sizes)),
    WeightFormat("fp8", per_tensor=True),
)
