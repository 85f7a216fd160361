"""The canonical names of a model's tensors, and how stored names map to them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qwen3_compile.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from qwen3_compile.checkpoint.safetensors_file import StoredTensor
    from qwen3_graphs.architecture import Architecture

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"

_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_PEFT = "base_model.model."

# Older writers kept the rotary frequencies, which are a function of rope_theta.
_ROTARY_BUFFER = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.(original_)?inv_freq")
_FUSED_EXPERTS = re.compile(r"(model\.layers\.\d+\.mlp\.experts\.)(gate_up_proj|down_proj)")


def expected_tensors(architecture: Architecture, *, has_head: bool) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a model, in the order of computation.

    Args:
        architecture: the model's dimensions.
        has_head: whether the model ends in a language-model head. A tied head has no tensor of its own.
    """
    a = architecture
    hidden = a.hidden_size
    queries, keys = a.num_attention_heads * a.head_dim, a.num_key_value_heads * a.head_dim
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (a.vocab_size, hidden)}
    for index in range(a.num_hidden_layers):
        layer = f"model.layers.{index}."
        shapes[layer + "input_layernorm.weight"] = (hidden,)
        shapes[layer + "self_attn.q_proj.weight"] = (queries, hidden)
        shapes[layer + "self_attn.k_proj.weight"] = (keys, hidden)
        shapes[layer + "self_attn.v_proj.weight"] = (keys, hidden)
        shapes[layer + "self_attn.o_proj.weight"] = (hidden, queries)
        shapes[layer + "self_attn.q_norm.weight"] = (a.head_dim,)
        shapes[layer + "self_attn.k_norm.weight"] = (a.head_dim,)
        shapes[layer + "post_attention_layernorm.weight"] = (hidden,)
        if a.has_experts(index):
            shapes[layer + "mlp.gate.weight"] = (a.num_experts, hidden)
            for expert in range(a.num_experts):
                shapes |= _swiglu(f"{layer}mlp.experts.{expert}.", hidden, a.moe_intermediate_size)
        else:
            shapes |= _swiglu(layer + "mlp.", hidden, a.intermediate_size)
    shapes["model.norm.weight"] = (hidden,)
    if has_head and not a.tie_word_embeddings:
        shapes[HEAD] = (a.vocab_size, hidden)
    return shapes


def _swiglu(prefix: str, hidden: int, intermediate: int) -> dict[str, tuple[int, ...]]:
    return {
        prefix + "gate_proj.weight": (intermediate, hidden),
        prefix + "up_proj.weight": (intermediate, hidden),
        prefix + "down_proj.weight": (hidden, intermediate),
    }


def unwrapped(stored_name: str) -> str:
    """The name without what wrappers add: peft's `base_model.model.`, torch.compile's `_orig_mod`, DDP's `module`."""
    name = ".".join(part for part in stored_name.split(".") if part not in _WRAPPERS)
    while name.startswith(_PEFT):
        name = name.removeprefix(_PEFT)
    return name


def wrappers(stored_names: Iterable[str]) -> list[str]:
    """What wrappers added to the names, for a report."""
    wrapped = [name for name in stored_names if unwrapped(name) != name]
    found = {f"{part}." for name in wrapped for part in name.split(".") if part in _WRAPPERS}
    return sorted(found | {_PEFT for name in wrapped if _PEFT in name})


def lacks_model_prefix(stored_names: Iterable[str]) -> bool:
    """Whether the names drop `model.`, as those of a bare model without a head do (an Embedding release)."""
    return not any(unwrapped(name).startswith("model.") for name in stored_names)


def listed(names: Sequence[str], limit: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def is_rotary_buffer(name: str) -> bool:
    """Whether `name` is a precomputed rotary buffer, which every reader recomputes."""
    return _ROTARY_BUFFER.fullmatch(name) is not None


def canonical_tensors(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The stored tensors under canonical names: wrappers left out, `model.` added, fused experts as a range an expert.

    A fused [experts, 2 * intermediate, hidden] `gate_up_proj` holds an expert's gate rows, then its up rows; a fused
    `down_proj` is [experts, hidden, intermediate] (what transformers 5 writes with `save_original_format=False`).
    A fused tensor that cannot be split so keeps its name, and verification reports it.

    Raises:
        CheckpointError: two stored tensors are the same weight.
    """
    prefix = "model." if lacks_model_prefix(stored) else ""
    canonical: dict[str, StoredTensor] = {}
    origin: dict[str, str] = {}
    for stored_name, tensor in stored.items():
        bare = unwrapped(stored_name)
        for name, part in _experts(bare if bare == HEAD else prefix + bare, tensor):
            if name in canonical:
                raise CheckpointError(f"{tensor.path}: holds {name} twice: in {origin[name]} and in {stored_name}")
            canonical[name], origin[name] = part, stored_name
    return canonical


def _experts(name: str, tensor: StoredTensor) -> Iterator[tuple[str, StoredTensor]]:
    fused = _FUSED_EXPERTS.fullmatch(name)
    parts = ("gate_proj", "up_proj") if fused and fused[2] == "gate_up_proj" else ("down_proj",)
    if fused is None or len(tensor.shape) != 3 or tensor.shape[1] % len(parts):
        yield name, tensor
        return
    experts, rows, columns = tensor.shape
    shape = (rows // len(parts), columns)
    for expert in range(experts):
        for index, part in enumerate(parts):
            begin = (expert * len(parts) + index) * shape[0] * columns
            yield f"{fused[1]}{expert}.{part}.weight", tensor.part(offset=begin, shape=shape)
