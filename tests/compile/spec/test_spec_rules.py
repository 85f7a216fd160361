"""What keys of a spec must hold together."""

from typing import get_args

import pytest
from minimal_spec import MOE, YARN, error, errors, spec

from qwen3_compile import targets
from qwen3_compile.spec.schema import Backend
from qwen3_graphs.lower import LOWERINGS


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
            "ort supports multiples of 16 from 16 to 4096, found 24 (which ",
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
            "expected one of the targets ort on cpu with plugins all",
        ),
        (
            ["target.plugins=none", "precision.activations=bf16", "precision.kv_cache=fp32"],
            "precision.activations",
            "ort supports fp32, found 'bf16'",
        ),
        (
            ["target={backend: ort, plugins: [attention]}"],
            "target",
            "plugins none; found ort on cpu with plugins [attention] (tensorrt or tensorrt-rtx takes that)",
        ),
        (
            ["target={backend: tensorrt, provider: cpu}"],
            "target",
            "targets tensorrt on cuda with plugins none, all or a list of attention and moe; found tensorrt on cpu",
        ),
        (
            ["target.backend=ort with plugins"],
            "target.backend",
            "expected backend: ort, with provider: cpu and plugins: all beside it, found 'ort with plugins'",
        ),
        (["target.backend=ort-plugins"], "target.backend", "with provider: cpu and plugins: all beside it, found"),
        (["target.backend=ort-cuda"], "target.backend", "with provider: cuda and plugins: none beside it, found"),
        (["target.backend=tflite"], "target.backend", "found 'tflite'"),
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


def test_plugins_have_one_order():
    found = spec(
        "target={backend: tensorrt-rtx, plugins: [moe, attention]}",
        "precision={weights: fp16}",
        "model.architecture.head_dim=64",
        *MOE,
    )
    assert found.target.plugins == ["attention", "moe"]


def test_a_format_that_a_target_lacks_is_named_and_no_default_that_follows_from_it():
    first, *_ = errors("target={backend: tensorrt-rtx}", "precision={weights: uint4}")
    assert "uint4" in first
    assert "group_size" not in first
