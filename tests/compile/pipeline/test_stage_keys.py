"""What each stage's result is kept by: a table of changes and of the stages that a change makes anew.

Covers: every input of every stage; versions of libraries; modules of our own
Reference: the tables below, written by hand
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import qwen3_compile.pipeline.stages.validate as validation
from qwen3_compile import machine
from qwen3_compile.checkpoint import open_checkpoint
from qwen3_compile.engine.manifest import source_record
from qwen3_compile.engine.tokens import Tokens
from qwen3_compile.pipeline import fingerprint
from qwen3_compile.pipeline.context import BuildContext
from qwen3_compile.pipeline.stages.calibrate import CalibrateStage
from qwen3_compile.pipeline.stages.lower import LowerStage
from qwen3_compile.pipeline.stages.pack import PackStage
from qwen3_compile.pipeline.stages.plan import PlanStage
from qwen3_compile.pipeline.stages.trace import SEMANTIC, TraceStage
from qwen3_compile.pipeline.stages.validate import ReportStage, ValidateStage
from qwen3_compile.pipeline.text_assets import TextAssets
from qwen3_compile.spec import parse_spec
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lowered import TensorSlot, WeightRecipe
from qwen3_runtime.manifest import FileEntry

STAGES = {
    "trace": TraceStage,
    "lower": LowerStage,
    "calibrate": CalibrateStage,
    "pack": PackStage,
    "plan": PlanStage,
    "validate": ValidateStage,
    "report": ReportStage,
}
DIMENSIONS = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 64,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
SPEC = {
    "schema_version": 2,
    "name": "keys",
    "model": {"source": "synthetic://1", "task": "chat", "architecture": DIMENSIONS},
    "precision": {"weights": "fp8", "fp8_scales": "tensor", "activation_quantization": "fp8"},
    "target": {"backend": "tensorrt-rtx", "compute_capabilities": ["8.9"]},
    "limits": {"max_context": 64, "max_batch": 2, "max_step_tokens": 16},
    "accuracy": {"max_kl": 1.0},
}
RECIPE = WeightRecipe(
    "rows", WeightFormat("fp16"), (("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.input_scale"),),
    (TensorSlot("up", "FLOAT16", (32, 32)),),
)  # fmt: skip


def changed(document, path, value):
    """A spec's JSON with another value at a dotted path."""
    first, _, rest = path.partition(".")
    return {**document, first: changed(document.get(first, {}), rest, value) if rest else value}


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """The key of each stage: keys(document, edit), where `edit` changes the build before the keys are taken."""
    monkeypatch.setattr(validation, "facts", lambda _manifest: [["facts", "of the engine"]])
    checkpoint = parse_spec(json.dumps(SPEC)).graph_architecture()  # one for all: its files say nothing of the spec
    monkeypatch.setattr(machine, "version", lambda _name: "1.0")  # to look them up takes longer than all the rest

    def keys(document=SPEC, edit=lambda _build: None):
        spec = parse_spec(json.dumps(document))
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        build = BuildContext.of(spec, folder, capabilities=["8.9"])
        build.folder = folder
        build.checkpoint = open_checkpoint("synthetic://1", base_dir=tmp_path, expected=checkpoint)
        build.source = source_record(build.checkpoint)
        build.text = TextAssets({}, None, Tokens(60, (3,), 4))
        build.recipes, build.scales, build.pre_scaled = (RECIPE,), {"up": 0.5}, ("up",)
        build.files = {name: FileEntry(4, name[:1] * 64) for name in ("model.onnx", "weights.bin", "model.plan")}
        (folder / SEMANTIC).write_bytes(b"graph")
        (folder / "accuracy.json").write_bytes(b"{}")
        edit(build)
        found = {}
        for name, kind in STAGES.items():
            if kind.expected(spec, build.target):
                stage = kind(build)
                stage.prepare()
                found[name] = stage.key()
        return found

    return keys


def different(before, after):
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def test_the_same_build_has_the_same_keys(keys):
    found = keys()
    assert None not in found.values()
    assert len(set(found.values())) == len(found)
    assert keys() == found


SPEC_CHANGES = [
    # The semantic graph is a file of the build here: what only the trace reads does not reach the lowering.
    ("model.architecture.rope_theta", 20000.0, {"trace", "calibrate", "pack", "validate"}),
    (
        "rope_scaling",
        {"type": "linear", "factor": 2.0},
        {"trace", "calibrate", "pack", "validate"},
    ),
    (
        "precision",
        {"weights": "int8", "group_size": "channel", "activation_quantization": "int8"},
        {"lower", "calibrate"},
    ),
    ("limits.max_context", 32, {"trace", "lower", "calibrate", "pack", "validate"}),
    ("limits.max_batch", 3, {"lower", "plan", "validate"}),
    ("precision.activations", "bf16", {"lower", "validate"}),
    ("precision.activation_quantization", "none", {"lower", "calibrate"}),
    ("target.compute_capabilities", ["12.0"], set()),
    ("target.profiles", {"decode_batch": 1}, {"plan"}),
    ("target.plugins", "all", {"lower", "plan", "validate"}),
    ("accuracy.prompts", ["One?"], {"validate", "report"}),
    ("accuracy.text", "A text.", {"validate", "report"}),
    ("accuracy.min_greedy_tokens", 40, {"validate", "report"}),  # more tokens than are compared otherwise
    ("accuracy.min_greedy_tokens", 5, {"report"}),
    ("accuracy.max_kl", 2.0, {"report"}),
    ("name", "others", {"report"}),
    ("chat.max_tokens", 8, set()),
]
"""Key of the spec, another value, and the stages that are made anew."""


@pytest.mark.parametrize(("path", "value", "anew"), SPEC_CHANGES)
def test_a_change_of_the_spec_makes_anew_what_depends_on_it(keys, path, value, anew):
    assert different(keys(), keys(changed(SPEC, path, value))) == anew


def set_file(name):
    def edit(build):
        build.files[name] = FileEntry(4, "0" * 64)

    return edit


def set_field(name, value):
    return lambda build: setattr(build, name, value)


def set_source(build):
    build.source["files"][0]["sha256"] = "0" * 64


def write(name):
    return lambda build: (build.scratch / name).write_bytes(b"another")


BUILD_CHANGES = {
    "semantic graph": (write(SEMANTIC), {"lower"}),
    "recipes": (set_field("recipes", (replace(RECIPE, layout="columns"),)), {"pack"}),
    "a file of the checkpoint": (set_source, {"calibrate", "pack", "validate"}),
    "scales": (set_field("scales", {"up": 0.25}), {"pack"}),
    "pre-scales": (set_field("pre_scaled", ()), {"lower", "pack"}),
    "model.onnx": (set_file("model.onnx"), {"plan", "validate"}),
    "weights.bin": (set_file("weights.bin"), {"plan", "validate"}),
    "tokenizer.json": (set_file("tokenizer.json"), {"validate"}),
    "model.plan": (set_file("model.plan"), set()),  # of a TensorRT engine the graph is measured
    "ids of the tokenizer": (set_field("text", TextAssets({}, None, Tokens(50, (3,), 4))), {"calibrate", "validate"}),
    "end tokens": (set_field("text", TextAssets({}, None, Tokens(60, (5,), 4))), {"validate"}),
    "padding": (set_field("text", TextAssets({}, None, Tokens(60, (3,), 5))), set()),
    "GPUs": (set_field("capabilities", ["12.0"]), {"plan"}),
    "figures": (write("accuracy.json"), {"report"}),
    "notes": (set_field("notes", ("planned",)), {"report"}),
    "threads": (set_field("threads", 3), set()),
    "uri": (lambda build: build.source.update(uri="elsewhere"), set()),
}


@pytest.mark.parametrize("what", BUILD_CHANGES)
def test_a_change_in_the_build_makes_anew_what_depends_on_it(keys, what):
    edit, anew = BUILD_CHANGES[what]
    assert different(keys(), keys(edit=edit)) == anew


def test_facts_of_the_engine_are_on_the_page(keys, monkeypatch):
    before = keys()
    monkeypatch.setattr(validation, "facts", lambda _manifest: [["facts", "of another"]])
    assert different(before, keys()) == {"report"}


def test_a_model_that_gives_hidden_states_is_traced_and_measured_anew(keys):
    document = changed(SPEC, "accuracy", {})
    assert different(keys(document), keys(changed(document, "model.task", "embedding"))) == {"trace", "validate"}


ON_CPU = {**SPEC, "precision": {"weights": "int8"}, "target": {"backend": "ort", "plugins": "all"}}


@pytest.mark.parametrize("target", [{"backend": "ort", "plugins": "none"}, {"backend": "onnx"}])
def test_graphs_of_two_targets_are_apart(keys, target):
    """Whatever else is the same: the weights' recipes are too, in this test."""
    precision = {"weights": "fp16", "activations": "fp32", "kv_cache": "fp16"}
    first, second = (keys({**SPEC, "precision": precision, "target": each}) for each in (ON_CPU["target"], target))
    assert different(first, second) == {"lower", "validate"}


def test_the_library_of_operators_counts_in_what_is_measured(keys, monkeypatch, tmp_path):
    library = tmp_path / "0"
    library.write_bytes(b"one")
    monkeypatch.setattr("qwen3_compile.targets.ort.OrtPlugins.library", lambda _target: library)
    before = keys(ON_CPU)
    library.write_bytes(b"two")
    assert different(before, keys(ON_CPU)) == {"validate"}


PLUGINS = changed(SPEC, "target.plugins", "all")
LIBRARIES = [
    ("torch", SPEC, {"trace", "calibrate", "validate"}),
    ("onnx", SPEC, {"trace", "lower"}),
    ("onnx-ir", SPEC, {"trace", "lower"}),
    ("onnxscript", SPEC, {"trace", "lower"}),
    ("numpy", SPEC, {"trace", "lower", "calibrate", "pack", "validate", "report"}),
    ("ml-dtypes", SPEC, {"lower", "calibrate", "pack"}),
    ("onnxruntime", SPEC, {"validate"}),
    ("tokenizers", SPEC, {"validate"}),
    ("jinja2", SPEC, {"validate"}),
    ("matplotlib", SPEC, {"report"}),
    ("tensorrt-rtx", SPEC, {"plan"}),
    ("triton", SPEC, set()),
    ("triton", PLUGINS, {"plan"}),
]
"""Distribution, spec, and the stages whose results depend on it."""


def test_a_manifest_records_every_library_that_an_engines_bytes_or_answers_depend_on():
    made = {library for library, _, anew in LIBRARIES if anew & {"trace", "lower", "calibrate", "pack"}}
    assert {"qwen3-compile", "onnxruntime", "tokenizers"} | made == set(fingerprint.TOOLS)


@pytest.mark.parametrize(("library", "document", "anew"), LIBRARIES)
def test_another_version_of_a_library_makes_anew_what_it_computes(keys, monkeypatch, library, document, anew):
    numbers = {}
    monkeypatch.setattr(machine, "version", lambda name: numbers.get(name, "1.0"))
    before = keys(document)
    numbers[library] = "2.0"
    assert different(before, keys(document)) == anew


MODULES = [
    ("qwen3_graphs.model", SPEC, {"trace", "calibrate", "validate"}),
    ("qwen3_graphs.serialize", SPEC, {"trace", "lower"}),
    ("qwen3_graphs.lower.tensorrt.experts", SPEC, {"lower"}),
    ("qwen3_compile.targets.ort", SPEC, {"lower"}),
    ("qwen3_compile.pack.stream", SPEC, {"lower", "pack"}),
    ("qwen3_compile.pack.layouts.core.rows", SPEC, {"pack"}),
    ("qwen3_compile.quantize.integers", SPEC, {"pack"}),
    ("qwen3_compile.checkpoint.synthetic", SPEC, {"calibrate", "pack", "validate"}),
    ("qwen3_graphs.rope", SPEC, {"trace", "pack", "calibrate", "validate"}),
    ("qwen3_compile.calibrate.observe", SPEC, {"calibrate"}),
    ("qwen3_compile.tensorrt.profiles", SPEC, {"plan"}),
    ("qwen3_plugins.tensorrt.kernels.attention_device", PLUGINS, {"plan"}),  # imported by name
    ("qwen3_compile.validate.metrics", SPEC, {"validate"}),
    ("qwen3_runtime.text.template", SPEC, {"validate"}),
    ("qwen3_runtime.backends.ort.padded", SPEC, {"validate"}),  # imported by name
    ("qwen3_compile.validate.plots", SPEC, {"report"}),
    *((f"qwen3_compile.pipeline.stages.{name}", SPEC, {name}) for name in STAGES if name != "report"),
    ("qwen3_compile.pipeline.stages.validate", SPEC, {"report"}),
]
"""Module, spec, and stages whose work it is; more may be made anew, as imports decide it."""


@pytest.mark.parametrize(("module", "document", "anew"), MODULES)
def test_another_source_of_a_module_makes_anew_what_it_computes(keys, monkeypatch, module, document, anew):
    read = fingerprint._module
    assert read(module) is not None
    before = keys(document)
    fingerprint.code_fingerprint.cache_clear()
    monkeypatch.setattr(
        fingerprint, "_module", lambda name: replace(read(name), sha256="other") if name == module else read(name)
    )
    try:
        assert anew <= different(before, keys(document))
    finally:
        fingerprint.code_fingerprint.cache_clear()
