"""A spec with every default filled in, and what of it reaches the graphs and the manifest."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minimal_spec import MOE, YARN, spec
from ruamel.yaml import YAML

from qwen3_compile.spec import spec_from_mapping
from qwen3_graphs.architecture import Architecture, YarnScaling
from qwen3_graphs.formats import WeightFormat
from qwen3_graphs.lowered import Limits, Precision


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


def test_hub_sources_get_the_default_revision():
    assert spec("model.source=hf://Qwen/Qwen3-0.6B").model.source == "hf://Qwen/Qwen3-0.6B@main"
    assert spec("model.source=hf://Qwen/Qwen3-0.6B@v1.0/x").model.source == "hf://Qwen/Qwen3-0.6B@v1.0/x"


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


def test_a_spec_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        spec().limits.max_batch = 9
