"""What an engine's graph holds: operators, and bytes by part of the model. Reads no weight."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from qwen3_graphs.formats import KINDS
from qwen3_runtime.engine_files import MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import GraphProto

CACHE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
SHARED = "embedding and head"
# The first pattern found in an initializer's name says which part of the model it belongs to.
PARTS = (
    # A tied head in another format than the embedding is a second form of the same tensor, named by its format.
    ("head", rf"lm_head|embed_tokens.*\.({'|'.join(KINDS)})(_\d+)?$"),
    ("embedding", r"embed_tokens"),
    ("experts", r"\.experts\."),
    ("router", r"\.mlp\.gate\."),
    ("norms", r"norm"),
    ("attention", r"self_attn"),
    ("MLP", r"\.mlp\."),
    ("RoPE tables", r"rope"),
)


def read_graph(engine: Path) -> GraphProto:
    """The graph of an engine directory, without its weights."""
    import onnx

    return onnx.load(engine / MODEL, load_external_data=False).graph


def operators(graph: GraphProto) -> Counter[str]:
    """How often each operator occurs, those in the bodies of loops and branches included."""
    counts: Counter[str] = Counter()
    for node in graph.node:
        counts[f"{node.domain}::{node.op_type}" if node.domain else node.op_type] += 1
        for attribute in node.attribute:
            if attribute.HasField("g"):
                counts += operators(attribute.g)
    return counts


def bytes_by_part(graph: GraphProto) -> dict[str, int]:
    """Bytes of `weights.bin` by part of the model, largest first; bytes that initializers share count once."""
    sizes: Counter[str] = Counter()
    seen: set[str] = set()
    for tensor in graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if "offset" in place and place["offset"] not in seen:
            seen.add(place["offset"])
            sizes[next((part for part, pattern in PARTS if re.search(pattern, tensor.name)), "other")] += int(
                place["length"]
            )
    if "head" not in sizes and any(value.name == "logits" for value in graph.output):
        sizes[SHARED] = sizes.pop("embedding")
    return dict(sizes.most_common())


def bytes_read_per_token(parts: dict[str, int], experts: int, experts_per_token: int) -> int:
    """Bytes of weights that decoding one token reads.

    That is everything but the experts that are not chosen, the embedding (one row) and the RoPE tables (one row).
    An embedding that shares its bytes with the head is read whole, by the head.

    Args:
        parts: from `bytes_by_part`.
        experts: experts per layer; 0 for a dense model.
        experts_per_token: experts that a token is routed to.
    """
    read = {part: size for part, size in parts.items() if part not in {"embedding", "RoPE tables"}}
    if experts and "experts" in read:
        read["experts"] = read["experts"] * experts_per_token // experts
    return sum(read.values())


def cache_bytes_per_token(layers: int, kv_heads: int, head_dim: int, cache_dtype: str) -> int:
    """Bytes of keys and values over all layers that one token of context takes; of int8, their scales too."""
    scale = 4 if cache_dtype == "int8" else 0
    return 2 * layers * kv_heads * (head_dim * CACHE_BYTES[cache_dtype] + scale)
