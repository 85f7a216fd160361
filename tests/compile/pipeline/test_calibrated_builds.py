"""Scales of quantized activations as a stage: measured, taken from the checkpoint, or repeated from a lock.

Covers: place in the manifest, locked rebuilds; a TensorRT graph of a W4A16_AWQ checkpoint, executed on the CPU
Reference: the checkpoint's own scales; eager PyTorch
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from float8_checkpoint import RELEASED, rewrite
from safetensors.torch import load_file, save_file

from qwen3_compile.calibrate import collect_sequences, measure_activation_scales
from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.engine.manifest import source_record
from qwen3_compile.engine.tokens import Tokens
from qwen3_compile.errors import CompileError, LockError
from qwen3_compile.pipeline.cache import Cache
from qwen3_compile.pipeline.context import BuildContext
from qwen3_compile.pipeline.progress import Silent
from qwen3_compile.pipeline.stage import run_stage
from qwen3_compile.pipeline.stages.calibrate import CalibrateStage
from qwen3_compile.pipeline.stages.lower import LowerStage
from qwen3_compile.pipeline.stages.trace import TraceStage
from qwen3_compile.pipeline.text_assets import TextAssets
from qwen3_compile.spec import parse_spec
from qwen3_runtime.manifest import parse_manifest
from qwen3_runtime.text import ChatTemplate, Tokenizer

LIVE = 261
TARGET = {"backend": "tensorrt-rtx", "compute_capabilities": ["8.9"]}
FP8 = {"weights": "fp8", "fp8_scales": "tensor", "lm_head": "fp16", "embedding": "fp16"}
FP8 |= {"activation_quantization": "fp8"}
INT8 = FP8 | {"weights": "int8", "fp8_scales": None, "group_size": "channel", "activation_quantization": "int8"}
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")


@pytest.fixture
def calibrated(checkpoints, cache_dir, spec_of, tmp_path_factory):
    """calibrated(kind, precision, source=..., locked=...): the record, how the stage ended, and the checkpoint."""

    class Outcome(Silent):
        text = ""

        def end(self, outcome=""):
            self.text = outcome

    def run(kind="dense", precision=FP8, *, source=None, locked=None, task="chat"):
        folder, cache = source or checkpoints / kind, Cache(cache_dir)
        document = json.loads(spec_of(folder, kind, precision=precision, target=TARGET, chat=None))
        document["model"]["task"] = task
        spec = parse_spec(json.dumps(document))
        scratch, outcome = tmp_path_factory.mktemp("scratch"), Outcome()
        build = BuildContext.of(spec, scratch, cache=cache, progress=outcome, locked=locked, capabilities=["8.9"])
        build.checkpoint = open_checkpoint(str(folder), base_dir=folder)
        build.source, build.folder = source_record(build.checkpoint), folder
        build.text = TextAssets({}, None, Tokens(LIVE))
        for stage in (TraceStage, LowerStage, CalibrateStage):
            run_stage(stage(build))
        record, checkpoint = build.source["calibration"], build.checkpoint
        return record, outcome.text, checkpoint

    return run


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize(("precision", "rounding"), [(FP8, "fp8"), (INT8, "int8")])
def test_scales_of_every_projection_are_measured_on_the_built_in_texts(calibrated, kind, precision, rounding):
    record, outcome, checkpoint = calibrated(kind, precision)
    folder = checkpoint.paths[0].parent
    tokenizer = Tokenizer.open(folder)
    template = ChatTemplate.open(folder, tokenizer.named_tokens)
    texts = collect_sequences(tokenizer, template, prompts=None, tokenizer_vocab=LIVE, max_context=256)
    expected = measure_activation_scales(checkpoint, checkpoint.architecture, texts, rounding)
    experts = "mlp" if kind == "dense" else "mlp.experts"
    names = [f"self_attn.{name}" for name in ATTENTION] + [f"{experts}.{name}" for name in MLP]
    wanted = {f"model.layers.{layer}.{name}.input_scale" for layer in range(2) for name in names}
    assert record["scales"] == {name: expected[name] for name in wanted}
    assert record["stored"] == 0
    assert record["tokens"] == sum(ids.size for ids in texts)
    assert outcome == f"14 scales, measured on {record['tokens']} tokens"


@pytest.mark.parametrize(("kind", "head"), [("moe", "lm_head"), ("dense", "model.embed_tokens")])
def test_a_head_in_eight_bits_has_a_scale_too(calibrated, kind, head):
    record, _, _ = calibrated(kind, FP8 | {"lm_head": "fp8"})
    assert len(record["scales"]) == 15
    assert record["scales"][f"{head}.input_scale"] > 0


def test_the_same_measurement_is_not_made_twice(calibrated):
    first, _, _ = calibrated()
    second, outcome, _ = calibrated()
    assert second == first
    assert outcome == "14 scales, from the cache"
    _, outcome, _ = calibrated(precision=INT8)
    assert "measured" in outcome


def test_prompts_of_the_spec_are_read_instead(calibrated):
    built_in, _, _ = calibrated()
    given, outcome, _ = calibrated(precision=FP8 | {"calibration_prompts": ["Yes?", "No."]})
    assert given["texts"] != built_in["texts"]
    assert "measured" in outcome
    with pytest.raises(CompileError, match="calibration_prompts: none of them has a token"):
        calibrated(precision=FP8 | {"calibration_prompts": [""]}, task="completion")


@pytest.fixture
def with_scales(checkpoints, tmp_path):
    """A checkpoint in E4M3 that holds some scales of inputs: with_scales(names) gives its folder."""

    def make(names):
        folder = shutil.copytree(checkpoints / "dense", tmp_path / "scaled")
        rewrite(folder, RELEASED | {"weight_block_size": None}, torch.float32)
        state = load_file(folder / "model.safetensors")
        for name in list(state):
            if any(name.endswith(f"{wanted}.weight") for wanted in names):
                state[name.replace("weight", "input_scale")] = torch.tensor([0.015])
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def test_the_checkpoints_own_scales_win(calibrated, with_scales):
    own = with_scales(["self_attn.o_proj", "mlp.down_proj"])
    record, _, _ = calibrated(source=own)
    stored = {name for name in record["scales"] if "o_proj" in name or "down_proj" in name}
    assert record["stored"] == len(stored) == 4
    assert record["tokens"] > 0
    for name, scale in record["scales"].items():
        assert (scale == np.float32(0.015)) == (name in stored)


def test_a_checkpoint_with_all_scales_is_not_run(calibrated, with_scales):
    record, outcome, _ = calibrated(source=with_scales(["_proj"]))
    assert outcome == "14 scales of the checkpoint"
    assert (record["stored"], record["tokens"], record["texts"]) == (14, 0, None)


def test_scales_of_e4m3_say_nothing_about_int8(calibrated, with_scales):
    record, _, _ = calibrated(precision=INT8, source=with_scales(["_proj"]))
    assert record["stored"] == 0
    assert np.float32(0.015) not in record["scales"].values()


def locked_with(manifest, record):
    document = json.loads(manifest.read_text())
    document["source"]["calibration"] = record
    return parse_manifest(json.dumps(document).encode())


@pytest.fixture
def manifest(make):
    """The manifest of some engine."""
    return make(options={"validate": False})[0].path / "manifest.json"


def test_a_locked_build_takes_the_scales_of_the_engine(calibrated, manifest):
    record, _, _ = calibrated()
    other = record | {"scales": dict.fromkeys(record["scales"], 0.125)}
    found, outcome, _ = calibrated(locked=locked_with(manifest, other))
    assert found == other
    assert outcome == "14 scales of the locked engine"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: None, "the manifest has no source.calibration"),
        (lambda scales: {"scales": dict(list(scales.items())[1:])}, "does not hold the scales of 14 activations"),
        (lambda scales: {"scales": scales | {next(iter(scales)): 0.0}}, "input_scale is 0.0, expected a number above"),
        (lambda scales: {"scales": scales | {next(iter(scales)): 1e-300}}, "input_scale is 1e-300, expected a number"),
        (lambda scales: {"scales": scales | {next(iter(scales)): 1e300}}, r"input_scale is 1e\+300, expected a number"),
        (lambda scales: {"scales": scales | {next(iter(scales)): "1"}}, "input_scale is '1', expected a number above"),
    ],
)
def test_a_lock_without_its_scales_is_refused(calibrated, manifest, damage, message):
    record, _, _ = calibrated()
    with pytest.raises(LockError, match=message):
        calibrated(locked=locked_with(manifest, damage(record["scales"])))


def test_an_engine_holds_the_scales_that_its_manifest_records_and_locks_to_them(make, read_tree, tmp_path):
    options = {"validate": False}
    original, _ = make(out="original", precision=FP8, target=TARGET, options=options)
    scales = original.manifest["source"]["calibration"]["scales"]
    graph = onnx.load(original.path / "model.onnx").graph
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert len(scales) == 14
    for name, scale in scales.items():
        assert found[name].dtype == np.float32
        assert found[name] == scale
    manifest = parse_manifest((original.path / "manifest.json").read_bytes())
    shutil.rmtree(tmp_path / "cache" / "v1" / "calibration")
    locked, record = make(out="again", precision=FP8, target=TARGET, options=options | {"locked": manifest})
    assert record.outcomes["calibrate"] == "14 scales of the locked engine"
    assert read_tree(locked.path) == read_tree(original.path)


def test_pre_scales_fold_into_the_weights_of_targets_that_multiply_no_inputs(make, checkpoints, tmp_path):
    """Powers of two fold without rounding: the engine is that of weights that were multiplied before."""
    folders = {name: shutil.copytree(checkpoints / "dense", tmp_path / name) for name in ("apart", "folded")}
    state = load_file(folders["apart"] / "model.safetensors")
    apart, folded = dict(state), dict(state)
    for name in [name for name in state if name.endswith(("o_proj.weight", "down_proj.weight"))]:
        scale = torch.exp2(torch.arange(state[name].shape[1]) % 5 - 2.0)
        apart[name.replace("weight", "pre_quant_scale")] = scale.to(torch.bfloat16)
        folded[name] = (state[name].float() * scale).to(torch.bfloat16)
    assert len(apart) == len(state) + 4
    for name, tensors in (("apart", apart), ("folded", folded)):
        save_file(tensors, folders[name] / "model.safetensors", metadata={"format": "pt"})
    engines = [
        make(out=f"engine-{name}", source=folder, options={"validate": False})[0].path
        for name, folder in folders.items()
    ]
    first, second = ((engine / "weights.bin").read_bytes() for engine in engines)
    assert first == second


def test_pre_scales_stay_apart_where_the_graph_multiplies_inputs(make, checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints / "dense", tmp_path / "apart")
    state = load_file(folder / "model.safetensors")
    matrix = "model.layers.1.mlp.down_proj.weight"
    scale = torch.rand(state[matrix].shape[1]) + 0.5
    save_file(state | {matrix.replace("weight", "pre_quant_scale"): scale}, folder / "model.safetensors")
    precision = {"weights": "fp16", "lm_head": "fp16", "embedding": "fp16"}
    info, _ = make(source=folder, precision=precision, target=TARGET, options={"validate": False})
    graph = onnx.load(info.path / "model.onnx").graph
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    assert any(np.array_equal(array, scale.half().numpy()) for array in arrays)
    weight = state[matrix].half().numpy()
    assert any(np.array_equal(array, weight) or np.array_equal(array, weight.T) for array in arrays)


def test_four_bit_weights_with_pre_scales_make_an_engine_that_differs_by_the_rounding_of_fp16(
    make, checkpoints, tmp_path
):
    """As ModelOpt stores them (W4A16_AWQ): the codes reach the engine, and the inputs are multiplied in the graph."""
    folder = shutil.copytree(checkpoints / "dense", tmp_path / "awq")
    state, rng = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(1)
    for name in [name for name in state if name.endswith("_proj.weight")]:
        groups = state[name].float().reshape(len(state[name]), -1, 32)
        scales = groups.abs().amax(-1) / 7
        codes = (groups / scales[..., None]).round().clamp(-8, 7).reshape(state[name].shape).to(torch.int8)
        state[name] = ((codes[0::2] & 15) | ((codes[1::2] & 15) << 4)).view(torch.uint8)
        state[f"{name}_scale"] = scales
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            state[name.replace("weight", "pre_quant_scale")] = torch.rand(codes.shape[1], generator=rng) + 0.5
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    precision = {"weights": "int4", "group_size": 32, "lm_head": "fp16", "embedding": "fp16"}
    info, _ = make(source=folder, precision=precision, target=TARGET)
    graph = onnx.load(info.path / "model.onnx", load_external_data=False).graph
    assert sum(node.op_type == "DequantizeLinear" for node in graph.node) == 14
    assert info.accuracy.summary.worst_kl < 1e-3
    assert info.accuracy.summary.top1_agreement > 0.99
