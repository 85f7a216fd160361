"""What a spec may say: defaults, errors that name the line and the nearest key, and checks across keys."""

import io
import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from qwen3_compile import targets
from qwen3_compile.errors import SpecError
from qwen3_compile.spec import Spec, parse_spec, spec_from_mapping
from qwen3_compile.spec.problems import all_keys
from qwen3_compile.spec.schema import Backend
from qwen3_graphs.architecture import Architecture, YarnScaling
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lower import LOWERINGS
from qwen3_graphs.lowered import Limits, Precision

WEIGHTS = "'fp32', 'fp16', 'bf16', 'fp8', 'int8', 'int4' or 'uint4'"
MINIMAL = """\
schema_version: 2
name: tiny
model:
  source: ../checkpoint
  architecture:
    vocab_size: 1000
    hidden_size: 256
    intermediate_size: 512
    num_hidden_layers: 2
    num_attention_heads: 4
    num_key_value_heads: 2
    head_dim: 32
    max_position_embeddings: 4096
    rope_theta: 1e6
    tie_word_embeddings: true
    rms_norm_eps: 1e-6
precision:
  weights: int4
limits:
  max_context: 2048
"""
MOE = ["num_experts=8", "num_experts_per_tok=2", "moe_intermediate_size=64"]
YARN = "rope_scaling={type: yarn, factor: 2, original_max_position_embeddings: 2048}"
MOE = [f"model.architecture.{text}" for text in MOE]


def spec(*overrides, text=MINIMAL):
    return parse_spec(text, path="dir/tiny.yaml", overrides=overrides)


def errors(*overrides, text=MINIMAL):
    with pytest.raises(SpecError) as caught:
        spec(*overrides, text=text)
    return str(caught.value).splitlines()


def error(*overrides, text=MINIMAL):
    (line,) = errors(*overrides, text=text)
    return line


def test_fills_every_default():
    resolved = spec().resolved()
    assert resolved["model"]["task"] == "chat"
    assert resolved["model"]["tokenizer"] is None
    assert resolved["precision"] == {
        "weights": "int4",
        "group_size": 32,
        "fp8_scales": None,
        "lm_head": "int4",
        "embedding": "int4",
        "activations": "fp32",
        "activation_quantization": "int8",
        "calibration_prompts": None,
        "kv_cache": "fp16",
    }
    assert {key: value for key, value in resolved["target"].items() if value is not None} == {
        "backend": "ort",
        "plugins": "all",
        "provider": "cpu",
    }
    assert resolved["limits"] == {"max_context": 2048, "max_batch": 4, "max_step_tokens": 512}
    assert resolved["chat"]["thinking"] == "hybrid"
    assert resolved["chat"]["max_tokens"] == 2048
    assert resolved["chat"]["thinking_budget"] == 1024
    assert resolved["chat"]["sampling"]["thinking"]["temperature"] == 0.6
    assert resolved["chat"]["sampling"]["thinking"]["top_p"] == 0.95
    assert resolved["chat"]["sampling"]["non_thinking"]["temperature"] == 0.7
    assert resolved["chat"]["sampling"]["non_thinking"]["top_p"] == 0.8
    assert set(resolved["accuracy"].values()) == {None}


@pytest.mark.parametrize(
    ("target", "cache"), [("backend=ort", "fp16"), ("plugins=none", "fp32"), ("backend=onnx", "fp32")]
)
def test_the_cache_defaults_to_what_the_target_computes(target, cache):
    assert spec(f"target.{target}").precision.kv_cache == cache


def test_large_contexts_get_the_reports_budget_and_output_length():
    chat = spec("model.architecture.max_position_embeddings=40960", "limits.max_context=40960").chat
    assert (chat.max_tokens, chat.thinking_budget) == (32768, 8192)


def test_gives_the_graphs_package_its_types():
    scaled = spec(YARN, "precision.lm_head=fp16")
    assert scaled.graph_architecture() == Architecture(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        rope_theta=1e6,
        tie_word_embeddings=True,
        yarn=YarnScaling(factor=2.0, original_max_position_embeddings=2048),
    )
    assert scaled.graph_precision() == Precision(
        WeightFormat("int4", 32), WeightFormat("fp16"), WeightFormat("fp16"), "fp32", "fp16"
    )
    assert scaled.graph_limits() == Limits(2048, 4, 512)
    assert spec(*MOE).graph_architecture().is_moe


def test_embedding_follows_the_head_only_where_tied():
    assert spec("precision.lm_head=int8").precision.embedding == "int8"
    untied = spec("precision.lm_head=int8", "model.architecture.tie_word_embeddings=false")
    assert untied.precision.embedding == "int4"


def test_relative_sources_count_from_the_specs_folder():
    assert str(spec().base_dir) == "dir"


def test_lists_every_error_with_its_line():
    text = MINIMAL.replace("hidden_size: 256", "hidden_sise: 256").replace("weights: int4", "weights: int5")
    assert errors(text=text) == [
        "dir/tiny.yaml:5: model.architecture.hidden_size: required but missing",
        "dir/tiny.yaml:7: model.architecture.hidden_sise: unknown key; did you mean hidden_size?",
        f"dir/tiny.yaml:18: precision.weights: expected {WEIGHTS}, found 'int5'",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "vocab_size: 1000",
            "vocab_size: '1000'",
            ":6: model.architecture.vocab_size: expected an integer, found '1000'",
        ),
        (
            "vocab_size: 1000",
            "vocab_size: 1000.0",
            ":6: model.architecture.vocab_size: expected an integer, found 1000.0",
        ),
        ("vocab_size: 1000", "vocab_size: true", ":6: model.architecture.vocab_size: expected an integer, found true"),
        ("vocab_size: 1000", "vocab_size: 0", ":6: model.architecture.vocab_size: expected at least 1, found 0"),
        ("vocab_size: 1000", "vocab_size:", ":6: model.architecture.vocab_size: expected an integer, found null"),
        (
            "vocab_size: 1000",
            "vocab_size: 3000000000",
            ":6: model.architecture.vocab_size: expected at most 2147483647",
        ),
        (
            "rope_theta: 1e6",
            "rope_theta: .inf",
            ":14: model.architecture.rope_theta: expected a finite number, found inf",
        ),
        (
            "rope_theta: 1e6",
            "rope_theta: .nan",
            ":14: model.architecture.rope_theta: expected a finite number, found nan",
        ),
        ("rope_theta: 1e6", "rope_theta: big", ":14: model.architecture.rope_theta: expected a number, found 'big'"),
        (
            "tie_word_embeddings: true",
            "tie_word_embeddings: yes",
            ":15: model.architecture.tie_word_embeddings: expected true or false",
        ),
        ("name: tiny", "name: ../x", ":2: name: expected a name that matches"),
        ("max_context: 2048", "max_context: 1", ":20: limits.max_context: expected at least 2, found 1"),
        ("name: tiny", "name: 3", ":2: name: expected a string, found 3"),
        ("schema_version: 2", "schema_version: 3", ":1: schema_version: expected 2, found 3"),
        ("precision:\n  weights: int4", "precision: int4", ":17: precision: expected a mapping of keys, found 'int4'"),
        ("source: ../checkpoint", "source: s3://x", ":4: model.source: expected a path, hf://"),
        (
            "source: ../checkpoint",
            "source: hf://x",
            ":4: model.source: expected hf://org/name or hf://org/name@revision",
        ),
        ("source: ../checkpoint", "source: synthetic://-1", ":4: model.source: expected synthetic://SEED"),
        ("source: ../checkpoint", "source: ''", ":4: model.source: expected a path"),
    ],
)
def test_a_wrong_value_says_where_what_was_expected_and_what_was_found(old, new, expected):
    assert old in MINIMAL
    assert error(text=MINIMAL.replace(old, new)).startswith(f"dir/tiny.yaml{expected}")


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("limits.max_contxt=1", "did you mean max_context?"),
        ("presision=int8", "did you mean precision?"),
        ("target.max_batch=1", "it belongs at limits.max_batch"),
        ("chat.head_dim=1", "it belongs at model.architecture.head_dim"),
        ("chat.top_k=1", "it belongs at chat.sampling.thinking.top_k or chat.sampling.non_thinking.top_k"),
        ("limits.zzz=1", "expected one of max_context, max_batch, max_step_tokens"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(override, hint):
    assert error(override) == f"--set {override.partition('=')[0]}: unknown key; {hint}"


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (
            ["precision.group_size=128", "precision.weights=fp32"],
            "precision.group_size",
            "only integer formats have groups",
        ),
        (
            [*MOE, "target.plugins=none", "model.architecture.hidden_size=80"],
            "precision.group_size",
            "a divisor of hidden_size (80)",
        ),
        (
            [*MOE, "target.plugins=none", "precision.group_size=128"],
            "precision.group_size",
            "a divisor of moe_intermediate_size (64)",
        ),
        (["precision.kv_cache=fp32"], "precision.kv_cache", "ort with plugins supports fp16 or int8"),
        (["target.backend=onnx", "model.architecture.vocab_size=999"], "precision.lm_head", "an even vocab_size"),
        (
            ["target.backend=onnx", "model.architecture.vocab_size=999", "precision.lm_head=uint4"],
            "precision.lm_head",
            "an even vocab_size for uint4",
        ),
        (["precision.weights=uint4", "precision.group_size=channel"], "precision.group_size", "uint4 (weights"),
        (
            ["model.architecture.num_key_value_heads=3"],
            "model.architecture.num_key_value_heads",
            "a divisor of num_attention_heads (4), found 3",
        ),
        (["model.architecture.head_dim=33", "precision.weights=fp32"], "model.architecture.head_dim", "an even number"),
        (MOE[:1], "model.architecture.num_experts", "also needs num_experts_per_tok and moe_intermediate_size"),
        (MOE[1:], "model.architecture.num_experts_per_tok", "also needs num_experts"),
        (
            [*MOE, "model.architecture.num_experts_per_tok=9"],
            "model.architecture.num_experts_per_tok",
            "at most num_experts (8), found 9",
        ),
        (["model.architecture.mlp_only_layers=[0]"], "model.architecture.mlp_only_layers", "without experts has none"),
        (["model.architecture.decoder_sparse_step=2"], "model.architecture.decoder_sparse_step", "omit it"),
        (
            [*MOE, "model.architecture.mlp_only_layers=[2]"],
            "model.architecture.mlp_only_layers",
            "expected layers below 2, found 2",
        ),
        ([*MOE, "model.architecture.mlp_only_layers=[0, 1]"], "model.architecture.num_experts", "no layer has experts"),
        ([*MOE, "model.architecture.decoder_sparse_step=3"], "model.architecture.num_experts", "no layer has experts"),
        (
            ["target.plugins=none", "model.architecture.head_dim=24"],
            "model.architecture.head_dim",
            "ort supports multiples of 16 from 16 to 4096, found 24 (which ort with plugins or onnx or tensorrt",
        ),
        (
            ["target.plugins=none", "precision.kv_cache=fp16", "model.architecture.head_dim=12"],
            "model.architecture.head_dim",
            "multiples of 8 from 8 to 4096, found 12",
        ),
        (
            ["model.architecture.head_dim=1026"],
            "model.architecture.head_dim",
            "even numbers from 2 to 1024, found 1026",
        ),
        (
            ["target.backend=tensorrt-rtx", "model.architecture.head_dim=264", "precision.group_size=32"],
            "model.architecture.head_dim",
            "multiples of 8 from 16 to 256, found 264",
        ),
        (
            ["target={backend: ort, provider: cuda}", "precision.weights=fp16", "model.architecture.head_dim=40"],
            "model.architecture.head_dim",
            "ort on cuda supports multiples of 16",
        ),
        (["limits.max_context=4097"], "limits.max_context", "at most max_position_embeddings (4096)"),
        (["limits.max_context=4097", YARN], "limits.max_context", "(4096), found 4097"),
        (
            [YARN, "rope_scaling.original_max_position_embeddings=8192"],
            "rope_scaling.original_max_position_embeddings",
            "at most max_position_embeddings",
        ),
        (
            ["rope_scaling={type: yarn, factor: 2}"],
            "rope_scaling.original_max_position_embeddings",
            "type yarn needs it",
        ),
        (["rope_scaling={type: linear}"], "rope_scaling.factor", "type linear needs it, found null"),
        (["rope_scaling={type: default, factor: 2}"], "rope_scaling.factor", "type default has none, found 2.0"),
        (["rope_scaling={type: linear, factor: 2, truncate: false}"], "rope_scaling.truncate", "linear has none"),
        (["rope_scaling={type: linear, factor: 2}", "limits.max_context=8193"], "limits.max_context", "(8192)"),
        (
            ["rope_scaling={type: default}", "limits.max_context=8192"],
            "limits.max_context",
            "longer needs rope_scaling",
        ),
        (["rope_scaling={type: dynamic, factor: 2}"], "rope_scaling.type", "'yarn', 'linear' or 'default'"),
        (["limits.max_step_tokens=4096"], "limits.max_step_tokens", "at most max_context (2048)"),
        (["limits.max_step_tokens=2"], "limits.max_step_tokens", "at least max_batch (4)"),
        (["model.task=embedding", "chat={}"], "chat", "task embedding generates no text"),
        (["model.task=reranker", "chat={}"], "chat", "task reranker generates no text"),
        (["model.task=embedding", "accuracy.max_kl=0.1"], "accuracy.max_kl", "no probabilities"),
        (["model.task=completion", "chat.thinking=hybrid"], "chat.thinking", "task completion never thinks"),
        (["model.source=hf://Qwen/Qwen3-8B-Base"], "model.task", "expected completion for a base model"),
        (["model.tokenizer=synthetic://1"], "model.tokenizer", "synthetic sources have no tokenizer"),
        (["chat.max_tokens=4096"], "chat.max_tokens", "at most limits.max_context (2048)"),
        (["chat.thinking=never", "chat.thinking_budget=8"], "chat.thinking_budget", "never thinks has no budget"),
        (["chat.thinking_budget=2024"], "chat.thinking_budget", "at most 1992"),
        (["chat.thinking=never", "chat.sampling.thinking={}"], "chat.sampling.thinking", "omit it"),
        (["chat.thinking=always", "chat.sampling.non_thinking={}"], "chat.sampling.non_thinking", "omit it"),
        (["chat.sampling.thinking=null"], "chat.sampling.thinking", "required with chat.thinking 'hybrid'"),
        (
            ["target={provider: cuda, plugins: all}"],
            "target",
            "found ort on cuda with plugins all; there are: ort on cpu with plugins all",
        ),
        (
            ["target.plugins=none", "precision.activations=bf16", "precision.kv_cache=fp32"],
            "precision.activations",
            "ort supports fp32, found 'bf16'",
        ),
        (["target.backend=tflite"], "target.backend", "or 'tensorrt-rtx', found 'tflite'"),
    ],
)
def test_keys_that_do_not_hold_together_are_named_before_any_work(overrides, key, words):
    line = error(*overrides)
    assert f" {key}: " in line
    assert words in line


def test_a_last_group_may_be_partial_outside_experts():
    assert spec("model.architecture.hidden_size=80").precision.group_size == 32


def test_the_schema_the_table_of_targets_and_the_lowerings_name_the_same_backends():
    assert {target.backend for target in targets.TARGETS} == set(get_args(Backend))
    assert {target.lowering for target in targets.TARGETS} == set(LOWERINGS)


def test_yarn_reaches_beyond_the_trained_context():
    extended = spec(YARN, "rope_scaling.factor=4", "limits.max_context=8192")
    assert extended.limits.max_context == 8192


def test_a_scaling_reaches_the_graph_as_it_is_given():
    options = "attention_factor: 1.5, beta_fast: 24, beta_slow: 2, truncate: false"
    given = spec(f"rope_scaling={{type: yarn, factor: 2, original_max_position_embeddings: 2048, {options}}}")
    assert given.graph_architecture().yarn == YarnScaling(2.0, 2048, 1.5, 24.0, 2.0, truncate=False)
    assert spec("rope_scaling={type: linear, factor: 3}").graph_architecture().rope_factor == 3.0
    assert spec("rope_scaling={type: default}").graph_architecture() == spec().graph_architecture()


def test_dense_layers_reach_the_graph_and_unused_keys_no_manifest():
    every_second = spec(*MOE, "model.architecture.num_hidden_layers=5", "model.architecture.decoder_sparse_step=2")
    assert every_second.graph_architecture().dense_layers == (0, 2, 4)
    listed = spec(*MOE, "model.architecture.mlp_only_layers=[1]")
    assert listed.graph_architecture().dense_layers == (1,)
    assert listed.resolved()["model"]["architecture"]["mlp_only_layers"] == [1]
    assert spec(*MOE).resolved()["model"]["architecture"].keys().isdisjoint({"mlp_only_layers", "decoder_sparse_step"})


def test_keys_of_a_scaling_that_are_left_out_are_in_no_manifest():
    expected = {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 2048}
    assert spec(YARN).resolved()["rope_scaling"] == expected


def test_tasks_without_generation_have_no_chat_section():
    assert spec("model.task=embedding").chat is None
    assert spec("model.task=reranker").chat is None
    assert spec("model.task=completion").chat.sampling.thinking is None


def test_a_mode_keeps_its_other_defaults_when_one_value_is_set():
    thinking = spec("chat.sampling.thinking.temperature=1.0").chat.sampling.thinking
    assert (thinking.temperature, thinking.top_p, thinking.top_k) == (1.0, 0.95, 20)


def test_overrides_are_yaml_apply_in_order_and_reach_absent_sections():
    changed = spec("accuracy.max_kl=1e-2", "accuracy={max_kl: 0.5, min_top1_agreement: 1}", "accuracy.max_kl=~")
    assert changed.accuracy.max_kl is None
    assert changed.accuracy.min_top1_agreement == 1.0
    assert spec("chat=").chat == spec().chat


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("name", "--set: expected key.path=value, found 'name'"),
        ("=x", "--set: expected key.path=value, found '=x'"),
        ("a..b=x", "--set: expected key.path=value, found 'a..b=x'"),
        ("name.x=1", "--set name.x: 'x' is set inside 'tiny', which is not a mapping"),
        ("limits.max_batch=many", "--set limits.max_batch: expected an integer, found 'many'"),
        ("limits={max_context: x}", "--set limits.max_context: expected an integer, found 'x'"),
        ("name=!x y", "--set name:1: tags are not accepted, found !x"),
    ],
)
def test_a_wrong_override_is_located_at_the_override(override, line):
    assert error(override) == line


def test_hub_sources_get_the_default_revision():
    assert spec("model.source=hf://Qwen/Qwen3-0.6B").model.source == "hf://Qwen/Qwen3-0.6B@main"
    assert spec("model.source=hf://Qwen/Qwen3-0.6B@v1.0/x").model.source == "hf://Qwen/Qwen3-0.6B@v1.0/x"


@pytest.mark.parametrize("text", ["", "[]", "just words", "3"])
def test_a_document_that_is_no_mapping_is_refused(text):
    assert error(text=text).startswith("dir/tiny.yaml: expected a mapping of keys, found ")


@settings(max_examples=40)
@given(
    weights=st.sampled_from(["fp32", "fp16", "bf16", "int8", "int4", "uint4"]),
    task=st.sampled_from(["chat", "completion", "embedding", "reranker"]),
    max_context=st.integers(4, 4096),
    moe=st.booleans(),
    tied=st.booleans(),
    eps=st.floats(1e-9, 1e-3),
)
def test_the_resolved_spec_reads_back_as_the_same_spec(weights, task, max_context, moe, tied, eps):
    overrides = [
        f"precision.weights={weights}",
        f"model.task={task}",
        f"limits.max_context={max_context}",
        f"model.architecture.tie_word_embeddings={str(tied).lower()}",
        f"model.architecture.rms_norm_eps={eps!r}",
        *(MOE if moe else []),
    ]
    first = spec(*overrides)
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(first.resolved(), text)
    assert spec(text=text.getvalue()) == first
    assert spec_from_mapping(first.resolved(), where="manifest.json", base_dir=first.base_dir) == first


PATHS = sorted(".".join(map(str, path)) for path in all_keys(Spec))
ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({"a": [1]})


@given(st.lists(st.tuples(st.sampled_from(PATHS), ODD), min_size=1, max_size=3))
def test_any_value_at_any_key_is_accepted_or_refused_with_its_location(changes):
    values = YAML(typ="safe", pure=True).load(MINIMAL)
    for path, value in changes:
        *sections, key = path.split(".")
        place = values
        for section in sections:
            inner = place.get(section)
            place[section] = place = dict(inner) if isinstance(inner, dict) else {}
        place[key] = value
    try:
        accepted = spec_from_mapping(values, where="w", base_dir=Path())
    except SpecError as refused:
        lines = str(refused).splitlines()
    else:
        lines = [f"w: {accepted.name}: accepted"]
    assert lines
    assert all(re.match(r"w: [\w.-]+: ", line) for line in lines)


def test_a_spec_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        spec().limits.max_batch = 9
