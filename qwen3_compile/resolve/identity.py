"""What a checkpoint is, read from its small files: dimensions, task, thinking and stored number format.

A checkpoint states its dimensions. It does not state its task; each finding says what it was read from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen3_compile.checkpoint.adapter import ADAPTER_CONFIG, refuse_adapter
from qwen3_compile.checkpoint.config import MAX_CONFIG_BYTES, read_architecture, read_quantization
from qwen3_compile.checkpoint.directory import CONFIG, MODEL_ASSETS, TOKENIZER_ASSETS
from qwen3_compile.checkpoint.json_file import read_json_object
from qwen3_compile.checkpoint.schemes import StoredFormat
from qwen3_compile.errors import CheckpointError
from qwen3_compile.spec.source import FolderSource, HubSource
from qwen3_runtime.errors import EngineError
from qwen3_runtime.text.template import ChatTemplate

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from qwen3_compile.spec.schema import Task, Thinking
    from qwen3_graphs.architecture import Architecture

GENERATION = MODEL_ASSETS[0]
_SENTENCE_TRANSFORMERS = ("modules.json", "config_sentence_transformers.json")
_QUESTION = [{"role": "user", "content": "Hello"}]
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class Identity:
    """What a checkpoint is.

    Attributes:
        source: what `model.source` of a spec says to name it.
        name: the last part of its name.
        architecture: its dimensions.
        task: what it was trained to do.
        task_from: what the task was read from.
        thinking: how it thinks; None where its task is not chat.
        stored: the number format of its matrices.
        sampling: what its generation_config.json says of sampling.
    """

    source: str
    name: str
    architecture: Architecture
    task: Task
    task_from: str
    thinking: Thinking | None
    stored: StoredFormat
    sampling: Mapping[str, float]


def identify(source: FolderSource | HubSource, *, cache_dir: Path | None = None) -> Identity:
    """Read a checkpoint's small files; of a repository on the hub only they are downloaded.

    Args:
        source: a folder, which counts from the current one, or a repository.
        cache_dir: where downloads go; default is the Hugging Face cache.

    Raises:
        CheckpointError: it is not a Qwen3 checkpoint, or one that this project cannot compile.
    """
    if isinstance(source, HubSource):
        from qwen3_compile.checkpoint.hub import hub_snapshot

        snapshot = hub_snapshot(source.repo, source.revision, cache_dir=cache_dir)
        snapshot.fetch([CONFIG, ADAPTER_CONFIG, *TOKENIZER_ASSETS, *MODEL_ASSETS, *_SENTENCE_TRANSFORMERS])
        names = snapshot.names or {path.name for path in snapshot.folder.glob("*")}
        return _identity(snapshot.folder, names, str(source), source.repo.rpartition("/")[2])
    folder = source.path
    return _identity(folder, {path.name for path in folder.iterdir()}, str(folder), folder.resolve().name)


def _identity(folder: Path, names: Collection[str], source: str, name: str) -> Identity:
    refuse_adapter(folder, has_model=CONFIG in names)
    architecture = read_architecture(folder / CONFIG)
    config = read_json_object(folder / CONFIG, max_bytes=MAX_CONFIG_BYTES)
    has_generation = (folder / GENERATION).is_file()
    generation = read_json_object(folder / GENERATION, max_bytes=MAX_CONFIG_BYTES) if has_generation else {}
    template = _template(folder)
    task, task_from = _task(folder, names, name, config, generation, template)
    quantization = read_quantization(folder / CONFIG)
    stored = StoredFormat() if quantization is None else quantization[0].format_of(quantization[1])
    return Identity(
        source=source,
        name=name,
        architecture=architecture,
        task=task,
        task_from=task_from,
        thinking=_thinking(template) if task == "chat" and template else None,
        stored=stored,
        sampling=_sampling(generation),
    )


def _template(folder: Path) -> ChatTemplate | None:
    if not any((folder / file).is_file() for file in ("chat_template.jinja", "tokenizer_config.json")):
        return None
    try:
        return ChatTemplate.open(folder)
    except EngineError as error:
        raise CheckpointError(str(error)) from error


def _task(
    folder: Path,
    names: Collection[str],
    name: str,
    config: Mapping[str, Any],
    generation: Mapping[str, Any],
    template: ChatTemplate | None,
) -> tuple[Task, str]:
    classes = [str(entry) for entry in config.get("architectures") or ()]
    if heads := [entry for entry in classes if entry.endswith("Classification")]:
        raise CheckpointError(
            f"{folder / CONFIG}: expected a language model, found {heads[0]}: its classification head is not supported"
        )
    if "rerank" in name.lower():
        return "reranker", "its name; no file says so"
    if marks := [mark for mark in _SENTENCE_TRANSFORMERS if mark in names]:
        return "embedding", f"{marks[0]} of sentence-transformers"
    if bare := [entry for entry in classes if entry in ("Qwen3Model", "Qwen3MoeModel")]:
        return "embedding", f"architectures {bare[0]}: a model without a head"
    if "embedding" in name.lower():
        return "embedding", "its name; no file says so"
    if name.lower().endswith("-base"):
        return "completion", "its name; no file says so"
    if template is None:
        return "completion", "its files: there is no chat template"
    stops, begins = _ids(generation, config, "eos_token_id"), _ids(generation, config, "bos_token_id")
    if stops and stops <= begins:
        return "completion", "eos_token_id, which ends a text and not a turn (it is bos_token_id)"
    return "chat", "its chat template"


def _ids(generation: Mapping[str, Any], config: Mapping[str, Any], key: str) -> set[int]:
    value = generation.get(key, config.get(key))
    return {entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, int)}


def _thinking(template: ChatTemplate) -> Thinking:
    """Ask the template itself: a hybrid model's turn begins otherwise with thinking than without."""
    try:
        turns = [template.render(_QUESTION, enable_thinking=switch) for switch in (True, False)]
    except EngineError as error:
        raise CheckpointError(str(error)) from error
    if turns[0] != turns[1]:
        return "hybrid"
    return "always" if turns[0].rstrip().endswith("<think>") else "never"


def _sampling(generation: Mapping[str, Any]) -> dict[str, float]:
    if generation.get("do_sample") is not True:
        return {}
    return {key: generation[key] for key in _SAMPLING if type(generation.get(key)) in (int, float)}
