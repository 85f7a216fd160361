"""What a spec may ask of our TensorRT plugins."""

import pytest
from minimal_spec import MOE, error, spec

from qwen3_compile.targets.tensorrt import TENSORRT, TENSORRT_RTX
from qwen3_compile.targets.tensorrt.capabilities import PLUGINS
from qwen3_graphs.lowered import Plugins
from qwen3_plugins.tensorrt.kernels.attention import AttentionShape, attention_kernels

RTX = "target.backend=tensorrt-rtx"
HALF, CAPABILITIES = ["precision.weights=fp16"], "target.compute_capabilities"
PLUGIN_EXPERTS = [*MOE, "target.plugins=[moe]"]


def plugins(*overrides):
    return TENSORRT_RTX.graph_plugins(spec(*overrides))


def test_plugins_reach_the_graphs_package():
    assert plugins(RTX) == Plugins()
    asked = plugins(RTX, *PLUGIN_EXPERTS, "precision.group_size=32")
    assert (asked.attention, asked.moe) == (False, True)
    asked = plugins(RTX, "model.architecture.head_dim=64", "target.plugins=[attention]")
    assert (asked.attention, asked.moe) == (True, False)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["target.plugins=[attention]"],
            "target.plugins: the attention plugin has kernels for a head_dim of 64 or 128, found 32",
        ),
        (
            [*HALF, "model.architecture.head_dim=64", "target.plugins=[attention]", f"{CAPABILITIES}=['8.9', '7.5']"],
            f"{CAPABILITIES}: the plugins have kernels for {', '.join(PLUGINS)}, found 7.5",
        ),
        ([*PLUGIN_EXPERTS, "precision.weights=int8", "precision.group_size=channel"], "found weights int8"),
        ([*PLUGIN_EXPERTS, "precision.group_size=64"], "in groups of 32 or 128, found 64"),
        (
            [*PLUGIN_EXPERTS, "precision.weights=fp8", "precision.activation_quantization=fp8"],
            "the moe plugin does not quantize activations, found 'fp8'",
        ),
    ],
)
def test_what_the_plugins_do_not_compute_is_refused(overrides, words):
    assert words in error(RTX, *overrides)


def test_the_spec_knows_the_kernels_architectures():
    shape = AttentionShape(2, 1, 64, 16, 1e-6, "fp16")
    for capability in TENSORRT.formats.capabilities:
        try:
            attention_kernels(shape, int(capability.replace(".", "")))
        except ValueError:
            assert capability not in PLUGINS
        else:
            assert capability in PLUGINS
