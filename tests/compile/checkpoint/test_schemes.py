"""How checkpoints store matrices: every scheme is asked every question, and an unknown one is refused by name.

Covers: every scheme in the list; unknown schemes; a further one
Reference: the values that the stored codes stand for, by PyTorch
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qwen3_compile.checkpoint import TensorInfo, open_checkpoint
from qwen3_compile.checkpoint.config import read_architecture
from qwen3_compile.checkpoint.safetensors_file import StoredTensor, read_header
from qwen3_compile.checkpoint.schemes import SCHEMES, Scheme, StoredFormat, stated_scheme, stored_scheme
from qwen3_compile.errors import CheckpointError
from qwen3_compile.quantize import Quantized, values
from qwen3_compile.resolve.identity import identify
from qwen3_compile.spec import FolderSource

MATRIX, NORM = "model.layers.0.mlp.up_proj.weight", "model.norm.weight"
ROWS, COLUMNS, GROUP = 256, 128, 64


def floats():
    weight = torch.randn(ROWS, COLUMNS)
    return {MATRIX: weight}, weight


def float8(suffix, shape):
    def make():
        codes, scales = torch.randn(ROWS, COLUMNS).to(torch.float8_e4m3fn), torch.rand(shape) + 0.5
        whole = scales if scales.dim() < 2 else scales.repeat_interleave(ROWS // shape[0], dim=0)
        return {MATRIX: codes, MATRIX + suffix: scales}, codes.float() * whole

    return make


def int4():
    codes = torch.randint(-8, 8, (ROWS, COLUMNS))
    scales = torch.rand(ROWS, COLUMNS // GROUP) + 0.5
    packed = (codes[0::2] & 15 | (codes[1::2] & 15) << 4).to(torch.uint8)
    return {MATRIX: packed, f"{MATRIX}_scale": scales}, codes * scales.repeat_interleave(GROUP, dim=1)


WEIGHTS = {"type": "float", "num_bits": 8, "strategy": "channel", "symmetric": True}
COMPRESSED = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": WEIGHTS}}}
# By scheme: what config.json states, how the tensors are made, what a spec takes them as, and what `tensors()` says.
EXAMPLES = {
    "fp8": (
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        float8("_scale_inv", (2, 1)),
        StoredFormat("fp8", fp8_scales="block"),
        "float8_e4m3fn",
    ),
    "compressed-tensors float8": (
        COMPRESSED, float8("_scale", (ROWS, 1)), StoredFormat("fp8", fp8_scales="channel"), "float8_e4m3fn",
    ),
    "modelopt FP8 / FP8_PER_CHANNEL_PER_TOKEN": (
        {"quant_method": "modelopt", "quant_algo": "FP8"},
        float8("_scale", ()),
        StoredFormat("fp8", fp8_scales="channel"),
        "float8_e4m3fn",
    ),
    "modelopt W4A16_AWQ": (
        {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "group_size": GROUP},
        int4,
        StoredFormat("int4", group_size=GROUP),
        "int4",
    ),
    "no quantization_config": (None, floats, StoredFormat(), "float32"),
}  # fmt: skip


def test_every_scheme_has_an_example():
    assert list(EXAMPLES) != []
    assert sorted(EXAMPLES) == sorted(scheme.name for scheme in SCHEMES)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_every_scheme_answers_every_question(scheme, tmp_path):
    stated, make, stored_format, element_type = EXAMPLES[scheme.name]
    torch.manual_seed(3)
    state, meant = make()
    path = tmp_path / "model.safetensors"
    save_file(state | {NORM: torch.ones(COLUMNS)}, path)
    tensors = dict(read_header(path))

    for other, (config, *_) in EXAMPLES.items():
        if config is not None:
            assert scheme.is_stated(config) == (other == scheme.name)
            assert stated_scheme(config, where="config.json").name == other
    if stated is not None:
        assert list(scheme.problems(stated)) == []
    assert scheme.format_of(stated or {}) == stored_format
    # Without a word in config.json: compressed-tensors' own tensors cannot be told from ModelOpt's, and need not be.
    alike = {"compressed-tensors float8": "modelopt FP8 / FP8_PER_CHANNEL_PER_TOKEN"}
    assert stored_scheme(tensors).name == alike.get(scheme.name, scheme.name)

    taken = scheme.take(tensors)
    if stated is None:
        assert taken == {}
        assert tensors.keys() == {MATRIX, NORM}
        return
    assert (taken.keys(), tensors.keys()) == ({MATRIX}, {NORM})
    matrix = taken[MATRIX]
    assert (matrix.shape, matrix.element_type) == ((ROWS, COLUMNS), element_type)
    assert {part.path for part in matrix.parts} == {path}
    assert len(matrix.parts) == len(state)
    np.testing.assert_array_equal(values(matrix.read(MATRIX)), meant.numpy())


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ({"quant_method": "aqlm"}, "found quant_method 'aqlm'"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "found quant_method 'modelopt', quant_algo 'NVFP4'"),
        ({"quant_method": ["fp8"]}, r"found quant_method \['fp8'\]"),
        ({"bits": 3}, "found none of its keys"),
    ],
)
def test_an_unknown_scheme_is_refused_by_name_beside_those_that_are_read(tmp_path, stated, found):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "qwen3", "quantization_config": stated}))
    with pytest.raises(CheckpointError, match=found) as caught:
        read_architecture(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: quantization_config: ")
    assert all(name in message for name in EXAMPLES)
    assert "\n" not in message


@dataclass(frozen=True)
class StoredSteps:
    """A matrix of a scheme that this project does not know: codes as numbers, scales and zero points of groups."""

    parts: tuple[StoredTensor, ...]
    element_type: str = "uint4"

    @property
    def shape(self):
        return self.parts[0].shape

    def read(self, _name):
        codes, scales, zeros = (part.view() for part in self.parts)
        return Quantized(codes.astype(np.uint8), scales, GROUP, zeros.astype(np.uint8))


def take_steps(tensors):
    bases = [name.removesuffix(".steps") for name in tensors if name.endswith(".steps")]
    kinds = ("steps", "scales", "zeros")
    return {f"{base}.weight": StoredSteps(tuple(tensors.pop(f"{base}.{kind}") for kind in kinds)) for base in bases}


def test_a_further_scheme_is_one_place_in_the_list(dense_folder, tmp_path, monkeypatch):
    further = Scheme(
        name="steps",
        is_stated=lambda stated: stated.get("quant_method") == "steps",
        is_stored=lambda tensors: any(name.endswith(".steps") for name in tensors),
        problems=lambda _: (),
        format_of=lambda _: StoredFormat("uint4", group_size=GROUP),
        take=take_steps,
    )
    monkeypatch.setattr("qwen3_compile.checkpoint.schemes.SCHEMES", (further, *SCHEMES))
    folder, meant = shutil.copytree(dense_folder, tmp_path / "steps"), {}
    state = load_file(folder / "model.safetensors")
    name = "model.layers.1.self_attn.o_proj.weight"  # [40, 64]
    rows, columns = state.pop(name).shape
    codes, zeros = torch.randint(0, 16, (rows, columns)), torch.randint(0, 16, (rows, columns // GROUP))
    scales = torch.rand(rows, columns // GROUP) + 0.5
    kinds = {"steps": codes.int(), "scales": scales, "zeros": zeros.int()}
    parts = {name.replace("weight", kind): part for kind, part in kinds.items()}
    meant = (codes - zeros.repeat_interleave(GROUP, 1)) * scales.repeat_interleave(GROUP, 1)
    save_file(state | parts, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "steps"}}))

    checkpoint = open_checkpoint(str(folder), base_dir=tmp_path)
    assert checkpoint.tensors()[name] == TensorInfo((rows, columns), "uint4")
    np.testing.assert_array_equal(values(checkpoint.read(name)), meant.numpy())
    assert identify(FolderSource(folder)).stored == StoredFormat("uint4", group_size=GROUP)


def test_a_group_that_config_json_does_not_state_is_modelopts_own():
    scheme = stated_scheme({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, where="config.json")
    assert scheme.format_of({"quant_algo": "W4A16_AWQ"}) == StoredFormat("int4", group_size=128)
