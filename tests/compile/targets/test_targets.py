"""Every target is asked every question, so that one that was added lately has an answer to each."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import get_args

import onnx_ir as ir
import pytest

from qwen3_compile.cli.doctor import diagnose
from qwen3_compile.errors import SpecError
from qwen3_compile.pipeline.fingerprint import tool_versions
from qwen3_compile.spec import parse_spec
from qwen3_compile.spec.schema import (
    Backend,
    CacheKind,
    FloatKind,
    Fp8Scale,
    GroupSize,
    Provider,
    TargetSection,
    WeightKind,
)
from qwen3_compile.targets import TARGETS, default_target, find_target, target_of
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lowered import Lowered
from qwen3_graphs.trace import trace
from qwen3_runtime.backends import OPENERS
from qwen3_runtime.manifest import EngineTarget, PluginName

every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))

TEXT = """
schema_version: 2
name: tiny
model:
  source: synthetic://1
  task: completion
  architecture:
    vocab_size: 256
    hidden_size: 128
    intermediate_size: 128
    num_hidden_layers: 1
    num_attention_heads: 2
    num_key_value_heads: 1
    head_dim: 64
    max_position_embeddings: 256
    rope_theta: 10000.0
    tie_word_embeddings: false
precision: {weights: fp16}
limits: {max_context: 64}
"""


def spec_of(target, *overrides):
    section = f"target={{backend: {target.backend}, provider: {target.provider}, plugins: {target.plugins[0]}}}"
    return parse_spec(TEXT, overrides=[section, *overrides])


def allowed(annotation):
    """Values of a literal, or of a union of literals."""
    return {value for part in get_args(annotation) for value in (get_args(part) or (part,))}


def test_no_two_targets_have_one_name_or_mean_one_spec():
    assert len({target.name for target in TARGETS}) == len(TARGETS)
    named = [(target.backend, target.provider, plugins) for target in TARGETS for plugins in target.plugins]
    assert len(set(named)) == len(named)
    assert all(
        find_target(target.backend, target.provider, plugins) is target
        for target in TARGETS
        for plugins in target.plugins
    )


@every_target
def test_a_target_speaks_the_words_of_the_spec(target):
    assert (target.backend in get_args(Backend), target.provider in get_args(Provider)) == (True, True)
    formats = target.formats
    for key in ("weights", "lm_head", "embedding"):
        assert set(getattr(formats, key)) <= allowed(WeightKind)
    assert set(formats.activations) <= allowed(FloatKind)
    assert set(formats.kv_cache) <= allowed(CacheKind)
    assert set(formats.group_sizes) <= allowed(GroupSize)
    assert set(formats.fp8_scales) <= allowed(Fp8Scale)
    assert set(formats.activation_quantization) <= {"int8", "fp8", "none"}
    described = TargetSection.model_fields["backend"].description
    assert f"`{target.backend}`: " in described, "say in TargetSection.backend what the backend means"
    assert target.summary
    assert type(target).__doc__


def test_a_target_without_integer_formats_says_what_it_has(monkeypatch):
    onnx = default_target("onnx")
    floats = replace(onnx.formats, matrices=(WeightFormat("fp32"), WeightFormat("fp16")))
    monkeypatch.setattr(onnx, "formats", floats, raising=False)
    with pytest.raises(SpecError) as raised:
        spec_of(onnx, "precision={weights: int8}")
    assert "precision.weights: onnx supports fp32 or fp16, found 'int8'" in str(raised.value)
    assert "group_size" not in str(raised.value)


@every_target
@pytest.mark.parametrize("weights", ["fp16", "bf16", "fp8", "int8", "int4"])
def test_defaults_are_what_the_target_computes(target, weights):
    if weights not in target.formats.weights:
        return
    extra = ["precision.activations=bf16"] if weights == "bf16" and "bf16" in target.formats.activations else []
    spec = spec_of(target, f"precision.weights={weights}", *extra)
    assert target_of(spec.target) is target
    assert spec.precision.activations in target.formats.activations
    assert spec.precision.kv_cache in target.formats.kv_cache


@every_target
def test_a_backend_alone_means_its_first_target(target):
    spec = parse_spec(TEXT, overrides=[f"target.backend={target.backend}"])
    assert target_of(spec.target) is default_target(target.backend)
    with_provider = parse_spec(TEXT, overrides=[f"target={{backend: {target.backend}, provider: {target.provider}}}"])
    assert target_of(with_provider.target) is default_target(target.backend, target.provider)


@pytest.fixture(scope="module")
def semantic():
    """The model's graph, which is the same for every target."""
    spec = spec_of(TARGETS[0])
    return trace(spec.graph_architecture(), max_context=spec.limits.max_context)


@every_target
def test_a_target_lowers_and_says_how_its_engine_is_made(target, semantic):
    spec = spec_of(target)
    lowered = target.lower(semantic, spec)
    assert isinstance(lowered, Lowered)
    assert isinstance(lowered.model, ir.Model)
    assert isinstance(target.calibrates(spec), bool)
    assert isinstance(target.keeps_pre_scales(spec), bool)
    assert isinstance(target.manifest_fields(spec), dict)
    assert target.scale_bits in (16, 32)
    assert set(tool_versions(target.tools)) <= set(target.tools)
    library = target.library()
    assert library is None or library.is_file()


@every_target
def test_doctor_looks_for_all_that_a_target_needs(target):
    assert set(target.needs) <= {finding.topic for finding in diagnose()}
    assert set(target.builds_without) < set(target.needs)


@every_target
def test_the_runtime_reads_what_the_manifest_says(target):
    for plugins in target.plugins:
        recorded = EngineTarget(target.backend, target.provider, plugins, ("8.9",) if target.has_plan else ())
        assert target_of(recorded) is target
        assert recorded.has_plan == target.has_plan


@every_target
def test_the_runtime_opens_the_target(target):
    lists = [[name] for name in get_args(PluginName) if target.takes([name])]
    for plugins in (*target.plugins, *map(tuple, lists)):
        recorded = EngineTarget(target.backend, target.provider, plugins, ("8.9",) if target.has_plan else ())
        opener = OPENERS.get((target.backend, recorded.has_plugin("attention")))
        assert opener, "OPENERS of runtime/qwen3_runtime/backends/__init__.py lacks the target"
        assert (opener.on_cpu is not None) == target.has_plan
        for module in (opener.module, opener.on_cpu or opener.module):
            assert find_spec(module), module


def test_a_manifest_of_an_unknown_target_is_named():
    with pytest.raises(LookupError, match="no target openvino on cpu with plugins none"):
        target_of(EngineTarget("openvino", "cpu"))
