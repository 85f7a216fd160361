"""What a build will take, before it begins: download, disk, memory and time. Nothing is written.

Sizes follow from the spec's dimensions and formats. Memory and time are rough; their rules and the measurements that
they come from are in docs/building.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_compile.checkpoint.directory import CONFIG, MODEL_ASSETS, TOKENIZER_ASSETS, TOKENIZER_FILES, find_assets
from qwen3_compile.checkpoint.shards import INDEX, SINGLE
from qwen3_compile.contents import cache_bytes_per_token
from qwen3_compile.engine.manifest import CACHE_DTYPES
from qwen3_compile.spec import FolderSource, HubSource, parse_source
from qwen3_compile.spec.size import parameter_counts, weight_bytes
from qwen3_compile.targets import target_of
from qwen3_runtime.backends.cores import physical_cores

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from qwen3_compile.spec import Spec
    from qwen3_graphs.architecture import Architecture

_PAGE_BYTES = 4096  # every tensor of weights.bin begins on one
_PROCESS_BYTES = 300e6  # the process with its libraries, before it works
_PACKING_PEAK_RATIO = 2.4  # bytes at the peak of packing for each byte of the largest matrix in bfloat16
_REFERENCE_PEAK_RATIO = 1.3  # bytes at the peak of validation for each byte of a layer in float32
_PARAMETERS_PER_THREAD_SECOND = 11e6  # parameters a second and thread: 30.5e9 in 1,382 s on two
_START_SECONDS = 10.0  # seconds of imports and of the trace
_TIME_BASIS = "10 s and 11 million parameters per second and thread, measured on a 2-core x86-64; to a factor of 3"


@dataclass(frozen=True)
class Estimate:
    """What a build will take; sizes in bytes.

    Attributes:
        name: of the engine.
        source: of the weights; a revision on the hub as its commit, where the hub can be asked.
        parameters: of the model.
        download_bytes: what the Hugging Face cache does not hold yet; None where the hub cannot be asked.
        engine_bytes: the engine.
        cache_bytes: what the build cache takes beside it, where this build is not in it yet.
        disk_bytes: all three together.
        memory_bytes: the process at its peak.
        seconds: without the download.
        threads: that `seconds` counts on.
        time_basis: where `seconds` comes from.
        max_context: tokens of a sequence.
        kv_cache_bytes_per_sequence: keys and values of a sequence of `max_context` tokens.
    """

    name: str
    source: str
    parameters: int
    download_bytes: int | None
    engine_bytes: int
    cache_bytes: int
    disk_bytes: int
    memory_bytes: int
    seconds: float
    threads: int
    time_basis: str
    max_context: int
    kv_cache_bytes_per_sequence: int


def estimate(spec: Spec, *, threads: int | None = None, cached: bool = True, hub_cache: Path | None = None) -> Estimate:
    """Estimate a build. The hub, where the source is there, is asked for sizes of files and nothing else.

    Args:
        spec: what would be built.
        threads: of the build; default is one for each physical core.
        cached: results of stages are kept.
        hub_cache: the Hugging Face cache; default is the user's.

    Raises:
        CheckpointError: the hub knows no such repository or revision.
    """
    architecture, has_head = spec.graph_architecture(), spec.model.task != "embedding"
    threads = threads or physical_cores()
    source, download, text = _sources(spec, hub_cache)
    target = target_of(spec.target)
    weights = weight_bytes(architecture, spec.graph_precision(), has_head=has_head, scale_bits=target.scale_bits)
    weights += _tables(spec)
    copies = 2 if target.has_plan else 1  # a plan holds the weights again
    engine, kept = copies * weights + text, copies * weights if cached else 0
    parameters = parameter_counts(architecture, has_head=has_head)[0]
    return Estimate(
        name=spec.name,
        source=source,
        parameters=parameters,
        download_bytes=download,
        engine_bytes=engine,
        cache_bytes=kept,
        disk_bytes=engine + kept + (download or 0),
        memory_bytes=round(_PROCESS_BYTES + _peak(architecture)),
        seconds=round(_START_SECONDS + parameters / (_PARAMETERS_PER_THREAD_SECOND * threads), 1),
        threads=threads,
        time_basis=_TIME_BASIS,
        max_context=spec.limits.max_context,
        kv_cache_bytes_per_sequence=_cache_bytes(spec) * spec.limits.max_context,
    )


@dataclass(frozen=True)
class _Place:
    """What a source holds.

    Attributes:
        uri: the source; a revision on the hub as its commit, where the hub can be asked.
        sizes: bytes of its files by name; nothing of a hub that cannot be asked.
        cached: the files that need no download, or None where the hub cannot be asked.
    """

    uri: str
    sizes: Mapping[str, int]
    cached: Collection[str] | None


def _sources(spec: Spec, hub_cache: Path | None) -> tuple[str, int | None, int]:
    """The model's source, bytes to download, and bytes of the text files that go into the engine."""
    model = _place(spec.model.source, spec, hub_cache)
    tokenizer = model if spec.model.tokenizer is None else _place(spec.model.tokenizer, spec, hub_cache)
    text = sum(tokenizer.sizes.get(name, 0) for name in TOKENIZER_ASSETS)
    text += sum(model.sizes.get(name, 0) for name in MODEL_ASSETS)
    if model.cached is None or tokenizer.cached is None:
        return model.uri, None, text
    # By place and name: a tokenizer of the model's own repository travels once.
    needed = {(model.uri, name): size for name, size in model.sizes.items() if _is_needed(name, model)}
    needed |= {(tokenizer.uri, name): size for name, size in tokenizer.sizes.items() if name in TOKENIZER_FILES}
    there = {(place.uri, name) for place in (model, tokenizer) for name in place.cached or ()}
    return model.uri, sum(size for file, size in needed.items() if file not in there), text


def _place(text: str, spec: Spec, hub_cache: Path | None) -> _Place:
    source = parse_source(text)
    if isinstance(source, HubSource):
        from qwen3_compile.checkpoint.hub import hub_listing

        listing = hub_listing(source.repo, source.revision, cache_dir=hub_cache)
        if listing is None:
            return _Place(str(source), {}, None)
        return _Place(str(HubSource(source.repo, listing.commit)), listing.sizes, listing.cached)
    if isinstance(source, FolderSource):
        found = find_assets(spec.base_dir / source.path.expanduser(), TOKENIZER_FILES + MODEL_ASSETS)
        return _Place(str(source), {name: path.stat().st_size for name, path in found.items()}, found)
    return _Place(str(source), {}, ())


def _is_needed(name: str, model: _Place) -> bool:
    """Whether a build downloads a file of a model; which shards an index names is not looked up."""
    if name in (CONFIG, *TOKENIZER_FILES, *MODEL_ASSETS, SINGLE):
        return True
    return SINGLE not in model.sizes and (name == INDEX or ("/" not in name and name.endswith(".safetensors")))


def _tables(spec: Spec) -> int:
    """Bytes of `weights.bin` that are no weights: cosines, sines, and what fills the pages."""
    a = spec.model.architecture
    return 4 * spec.limits.max_context * a.head_dim + a.num_hidden_layers * 8 * _PAGE_BYTES // 2


def _peak(a: Architecture) -> float:
    """Bytes at the peak: of packing, by its largest matrix, or of validation, by a layer of the reference."""
    matrix = max(a.vocab_size * a.hidden_size, a.hidden_size * (a.moe_intermediate_size or a.intermediate_size))
    attention = 2 * a.hidden_size * a.head_dim * (a.num_attention_heads + a.num_key_value_heads)
    mlp = 3 * a.hidden_size * (a.num_experts * a.moe_intermediate_size if a.is_moe else a.intermediate_size)
    return max(_PACKING_PEAK_RATIO * 2 * matrix, _REFERENCE_PEAK_RATIO * 4 * (attention + mlp))


def _cache_bytes(spec: Spec) -> int:
    """Bytes of keys and values that a token takes."""
    a = spec.model.architecture
    dtype = CACHE_DTYPES[spec.precision.kv_cache]
    return cache_bytes_per_token(a.num_hidden_layers, a.num_key_value_heads, a.head_dim, dtype)
