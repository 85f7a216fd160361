"""`config.json`, in every dialect that Qwen3 checkpoints are written in, as an `Architecture`."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from qwen3_compile.checkpoint.config_section import ConfigSection
from qwen3_compile.checkpoint.json_file import read_json_object
from qwen3_compile.checkpoint.rope_config import read_rope
from qwen3_compile.checkpoint.schemes import Scheme, stated_scheme
from qwen3_compile.errors import CheckpointError
from qwen3_graphs.architecture import Architecture, layers_without_experts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_CONFIG_BYTES = 1_000_000

# Each is a feature that no Qwen3 release uses and the graph does not compute: key, the values that mean "off",
# and what the feature is. An absent key is off.
_UNSUPPORTED: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("attention_bias", (False, None), "biases in the attention projections"),
    ("qkv_bias", (False, None), "biases in the attention projections"),
    ("use_qk_norm", (True,), "attention without normalized queries and keys"),
    ("hidden_act", ("silu",), "an activation other than silu"),
    ("use_sliding_window", (False, None), "sliding-window attention"),
    ("shared_expert_intermediate_size", (0, None), "shared experts"),
    ("dual_chunk_attention_config", (None,), "dual chunk attention"),
    ("partial_rotary_factor", (1, None), "rotary embedding of a part of each head"),
)


_SPEC_KEYS = {"dense_layers": "layers without experts (mlp_only_layers, decoder_sparse_step)"}


def read_architecture(path: Path) -> Architecture:
    """The architecture that the config.json at `path` states.

    Keys that a writer may leave out take the defaults of transformers' Qwen3Config and Qwen3MoeConfig.

    Raises:
        CheckpointError: the file cannot be read, is not a Qwen3's, or asks for a feature that is not supported.
    """
    config = ConfigSection(read_json_object(path, max_bytes=MAX_CONFIG_BYTES), str(path))
    model_type = config.values.get("model_type")
    if model_type not in ("qwen3", "qwen3_moe"):
        raise CheckpointError(f"{path}: model_type is {model_type!r}, expected 'qwen3' or 'qwen3_moe'")
    _refuse_unsupported(config)

    is_moe = model_type == "qwen3_moe"
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    kv_heads = config.integer("num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise CheckpointError(
            f"{path}: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    head_dim = config.integer("head_dim", default=max(hidden // heads, 1) if is_moe else 128)
    if head_dim % 2:
        raise CheckpointError(f"{path}: head_dim is {head_dim}, but rotary embedding needs an even one")
    max_position = config.integer("max_position_embeddings")
    rope = read_rope(config, max_position)
    dense = Architecture(
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden,
        # A mixture of experts states it but has no dense layer that would use it.
        intermediate_size=config.integer("intermediate_size", default=6144 if is_moe else None),
        num_hidden_layers=config.integer("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=max_position,
        rope_theta=rope.theta,
        tie_word_embeddings=config.boolean("tie_word_embeddings", default=False),
        rms_norm_eps=config.number("rms_norm_eps", default=1e-6),
        yarn=rope.yarn,
        rope_factor=rope.factor,
    )
    return _with_experts(dense, config) if is_moe else dense


def read_quantization(path: Path) -> tuple[Scheme, Mapping[str, Any]] | None:
    """The scheme that the config.json at `path` states and its `quantization_config`; None where it has none.

    Raises:
        CheckpointError: the file cannot be read, or no scheme reads what it states.
    """
    config = ConfigSection(read_json_object(path, max_bytes=MAX_CONFIG_BYTES), str(path))
    stated = config.section("quantization_config")
    return None if stated is None else (stated_scheme(stated.values, where=config.where), stated.values)


def _with_experts(dense: Architecture, config: ConfigSection) -> Architecture:
    experts = config.integer("num_experts", "num_local_experts")
    chosen = config.integer("num_experts_per_tok")
    if chosen > experts:
        raise CheckpointError(f"{config.where}: num_experts_per_tok {chosen} exceeds num_experts {experts}")
    without = _layers_without_experts(config, dense.num_hidden_layers)
    if len(without) == dense.num_hidden_layers:
        return dense
    return replace(
        dense,
        dense_layers=without,
        num_experts=experts,
        num_experts_per_tok=chosen,
        moe_intermediate_size=config.integer("moe_intermediate_size"),
        norm_topk_prob=config.boolean("norm_topk_prob", default=False),
    )


def _layers_without_experts(config: ConfigSection, layers: int) -> tuple[int, ...]:
    listed = config.values.get("mlp_only_layers")
    listed = [] if listed is None else listed
    if not isinstance(listed, list) or not all(type(layer) is int and layer >= 0 for layer in listed):
        raise CheckpointError(f"{config.where}: mlp_only_layers is {listed!r}, expected a list of layers")
    return layers_without_experts(layers, listed, config.integer("decoder_sparse_step", default=1))


def _refuse_unsupported(config: ConfigSection) -> None:
    if (quantization := config.section("quantization_config")) is not None:
        stated_scheme(quantization.values, where=config.where)
    for key, off, feature in _UNSUPPORTED:
        if key in config.values and config.values[key] not in off:
            raise CheckpointError(
                f"{config.where}: {key}: expected {off[0]!r}, found {config.values[key]!r} ({feature}): not "
                "supported; use a checkpoint that was trained without it"
            )
    layer_types = config.values.get("layer_types") or []
    if not isinstance(layer_types, list) or any(kind != "full_attention" for kind in layer_types):
        raise CheckpointError(f"{config.where}: layer_types contains a kind other than 'full_attention': not supported")


def check_expected(found: Architecture, expected: Architecture, *, where: str) -> None:
    """Compare what a checkpoint states with what the spec expects of it.

    How RoPE is scaled is the spec's choice, and the dense width is unused where every layer has experts: neither is
    compared.

    Raises:
        CheckpointError: one line that names every field that differs.
    """
    ignored = {"yarn", "rope_factor"}
    if found.is_moe and expected.is_moe and not (found.dense_layers or expected.dense_layers):
        ignored.add("intermediate_size")
    differences = [
        f"{_SPEC_KEYS.get(field.name, field.name)}: expected {getattr(expected, field.name)} (spec), found "
        f"{getattr(found, field.name)}"
        for field in fields(Architecture)
        if field.name not in ignored and getattr(expected, field.name) != getattr(found, field.name)
    ]
    if differences:
        raise CheckpointError(f"{where}: not the model that the spec describes: {'; '.join(differences)}")
