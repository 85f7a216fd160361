"""The weights that standard operators compute. Nothing here needs ONNX: a spec is checked against it."""

from qwen3_graphs.formats import FLOATS, INTEGERS, KINDS, formats_in_groups

# DequantizeLinear takes every type of codes, and so does arithmetic on those that were gathered.
MATRICES = (
    *formats_in_groups(*FLOATS, sizes=(0,)),
    *formats_in_groups(*(kind for kind in INTEGERS if "per-channel" in KINDS[kind].granularities), sizes=(0,)),
    *formats_in_groups(*INTEGERS),
)
