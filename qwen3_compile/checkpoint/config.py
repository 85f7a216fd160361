"""`config.json`, in every dialect that Qwen3 checkpoints are written in, as an `Architecture`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from qwen3_compile.checkpoint.float8 import check_quantization
from qwen3_compile.checkpoint.json_file import read_json_object
from qwen3_compile.errors import CheckpointError
from qwen3_graphs.architecture import Architecture, YarnScaling

if TYPE_CHECKING:
    from pathlib import Path

MAX_CONFIG_BYTES = 1_000_000

# Each is a feature that no Qwen3 release uses and the graph does not compute: key, the values that mean "off",
# and what the feature is. An absent key is off.
_UNSUPPORTED: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("attention_bias", (False, None), "biases in the attention projections"),
    ("qkv_bias", (False, None), "biases in the attention projections"),
    ("use_qk_norm", (True,), "attention without normalised queries and keys"),
    ("hidden_act", ("silu",), "another activation than silu"),
    ("use_sliding_window", (False, None), "sliding-window attention"),
    ("shared_expert_intermediate_size", (0, None), "shared experts"),
    ("mlp_only_layers", ([], None), "a mixture of experts in only some layers"),
    ("decoder_sparse_step", (1,), "a mixture of experts in only some layers"),
    ("dual_chunk_attention_config", (None,), "dual chunk attention"),
    ("partial_rotary_factor", (1, None), "rotary embedding of a part of each head"),
)
_ROPE_KEYS = {
    "rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "attention_factor", "beta_fast",
    "beta_slow",
}  # fmt: skip


@dataclass(frozen=True)
class _Section:
    """A JSON object and where it stands, so that a wrong value names its place."""

    values: dict[str, Any]
    where: str

    def integer(self, *keys: str, default: int | None = None) -> int:
        """The positive integer under the first of `keys` that is there and not null."""
        value = self._find(keys, default)
        if type(value) is not int or not 0 < value < 2**31:
            raise CheckpointError(f"{self.where}: {keys[0]} is {value!r}, expected a positive integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._find((key,), default)
        if type(value) not in (int, float) or not 0 < value < 1e30:
            raise CheckpointError(f"{self.where}: {key} is {value!r}, expected a positive number")
        return float(value)

    def boolean(self, key: str, *, default: bool) -> bool:
        value = self._find((key,), default)
        if type(value) is not bool:
            raise CheckpointError(f"{self.where}: {key} is {value!r}, expected true or false")
        return value

    def section(self, key: str) -> _Section | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.where}: {key} is {value!r}, expected an object or null")
        return _Section(value, f"{self.where}: {key}")

    def _find(self, keys: tuple[str, ...], default: float | bool | None) -> Any:  # noqa: ANN401  # JSON: the callers check
        found = [self.values[key] for key in keys if self.values.get(key) is not None]
        if not found and default is None:
            raise CheckpointError(f"{self.where}: {' or '.join(keys)} is missing")
        if any(value != found[0] for value in found):
            raise CheckpointError(f"{self.where}: {' and '.join(keys)} differ: {found}")
        return found[0] if found else default


def read_architecture(path: Path) -> Architecture:
    """The architecture that the config.json at `path` states.

    Keys that a writer may leave out take the defaults of transformers' Qwen3Config and Qwen3MoeConfig.

    Raises:
        CheckpointError: the file cannot be read, is not a Qwen3's, or asks for a feature that is not supported.
    """
    config = _Section(read_json_object(path, max_bytes=MAX_CONFIG_BYTES), str(path))
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
    rope_theta, yarn = _rope(config, max_position)
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
        rope_theta=rope_theta,
        tie_word_embeddings=config.boolean("tie_word_embeddings", default=False),
        rms_norm_eps=config.number("rms_norm_eps", default=1e-6),
        yarn=yarn,
    )
    return _with_experts(dense, config) if is_moe else dense


def _with_experts(dense: Architecture, config: _Section) -> Architecture:
    experts = config.integer("num_experts", "num_local_experts")
    chosen = config.integer("num_experts_per_tok")
    if chosen > experts:
        raise CheckpointError(f"{config.where}: num_experts_per_tok {chosen} exceeds num_experts {experts}")
    return replace(
        dense,
        num_experts=experts,
        num_experts_per_tok=chosen,
        moe_intermediate_size=config.integer("moe_intermediate_size"),
        norm_topk_prob=config.boolean("norm_topk_prob", default=False),
    )


def _refuse_unsupported(config: _Section) -> None:
    if (quantization := config.section("quantization_config")) is not None:
        check_quantization(quantization.values, where=config.where)
    for key, off, feature in _UNSUPPORTED:
        if key in config.values and config.values[key] not in off:
            raise CheckpointError(f"{config.where}: {key} is {config.values[key]!r}: {feature} is not supported")
    layer_types = config.values.get("layer_types") or []
    if not isinstance(layer_types, list) or any(kind != "full_attention" for kind in layer_types):
        raise CheckpointError(f"{config.where}: layer_types holds another kind than 'full_attention': not supported")


def _rope(config: _Section, max_position: int) -> tuple[float, YarnScaling | None]:
    """Base and scaling of RoPE: transformers 5 writes `rope_parameters`, releases `rope_theta` and `rope_scaling`."""
    parameters, scaling = config.section("rope_parameters"), config.section("rope_scaling")
    if parameters and scaling and parameters.values != scaling.values:
        raise CheckpointError(f"{config.where}: rope_parameters and rope_scaling differ; keep one")
    source = parameters or scaling
    if parameters is not None and "rope_theta" in parameters.values:
        rope_theta = parameters.number("rope_theta")
    else:
        rope_theta = config.number("rope_theta")
    if source is None:
        return rope_theta, None

    kind = source.values.get("rope_type", source.values.get("type", "default"))
    if kind not in ("default", "yarn"):
        raise CheckpointError(f"{source.where}: rope type {kind!r} is not supported; 'yarn' is")
    unknown = source.values.keys() - _ROPE_KEYS
    if unknown:
        raise CheckpointError(f"{source.where}: {min(unknown)} is not supported")
    if kind == "default":
        return rope_theta, None
    attention_factor = source.values.get("attention_factor")
    return rope_theta, YarnScaling(
        factor=source.number("factor"),
        original_max_position_embeddings=source.integer("original_max_position_embeddings", default=max_position),
        attention_factor=None if attention_factor is None else source.number("attention_factor"),
        beta_fast=source.number("beta_fast", default=32.0),
        beta_slow=source.number("beta_slow", default=1.0),
    )


def check_expected(found: Architecture, expected: Architecture, *, where: str) -> None:
    """Compare what a checkpoint states with what the spec expects of it.

    A spec may add YaRN to a checkpoint without it, and the dense width of a mixture of experts is unused: neither is
    compared.

    Raises:
        CheckpointError: one line that names every field that differs.
    """
    ignored = {"yarn"} if found.yarn is None else set()
    if found.is_moe and expected.is_moe:
        ignored.add("intermediate_size")
    differences = [
        f"{field.name}: expected {getattr(expected, field.name)} (spec), found {getattr(found, field.name)}"
        for field in fields(Architecture)
        if field.name not in ignored and getattr(expected, field.name) != getattr(found, field.name)
    ]
    if differences:
        raise CheckpointError(f"{where}: not the model that the spec describes: {'; '.join(differences)}")
