"""What has to be known to build an engine from an ONNX file with our plugins.

trt = library.load("tensorrt_rtx")
v3.register(trt, capabilities=(89, 120))
parser.parse(without_functions(content), path)      # path: where the external weights are
v3.allow_in_place(trt, config)
"""

from __future__ import annotations

from qwen3_plugins.tensorrt.operator import DOMAIN


def without_functions(content: bytes) -> bytes:
    """Return an ONNX file without the model-local functions of our plugins' nodes.

    They say what the nodes compute, for ONNX Runtime on CPU. TensorRT's parser would import them instead of the
    plugins. Functions of other domains (`trt`) stay.
    """
    import onnx

    model = onnx.ModelProto.FromString(content)
    kept = [function for function in model.functions if function.domain != DOMAIN]
    del model.functions[:]
    model.functions.extend(kept)
    stripped: bytes = model.SerializeToString(deterministic=True)
    return stripped
