"""The manifest of an engine: what it computes, which files it is made of, and how it chats by default."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from qwen3_runtime.engine_files import MANIFEST
from qwen3_runtime.errors import DamagedEngineError, UnsupportedEngineError
from qwen3_runtime.json_object import MAX_COUNT, JsonObject

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 3
READABLE_VERSIONS = (2, 3)  # this one and the one before
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILES = 64
_MAX_FILE_BYTES = 1 << 43

Task = Literal["chat", "completion", "embedding", "reranker"]
OutputKind = Literal["logits", "hidden"]
Thinking = Literal["hybrid", "always", "never"]
CacheType = Literal["float32", "float16", "bfloat16", "int8"]
PluginName = Literal["attention", "moe"]
ActivationQuantization = Literal["none", "int8"]

TENSORRT = ("tensorrt", "tensorrt-rtx")
"""Backends whose engines hold a plan beside the graph that it was made from."""


@dataclass(frozen=True)
class EngineTarget:
    """What the engine was lowered for: the runtime's backend and the provider that executes it.

    Attributes:
        backend: `ort`, `onnx`, `tensorrt` or `tensorrt-rtx`.
        provider: `cpu` or `cuda`.
        plugins: which operators are our plugins: `all`, `none` or their names. The others are the backend's own.
        compute_capabilities: GPU architectures of a TensorRT plan, as `8.9`.
        activation_quantization: of a graph in standard operators: whether ONNX Runtime quantizes the activations
            that quantized matrices are multiplied with to int8.
    """

    backend: str
    provider: str
    plugins: Literal["all", "none"] | tuple[PluginName, ...] = "none"
    compute_capabilities: tuple[str, ...] = ()
    activation_quantization: ActivationQuantization = "none"

    def has_plugin(self, name: PluginName) -> bool:
        """Whether an operator is our plugin. Attention's decides the interface of a step: packed, else padded."""
        return self.plugins == "all" or name in self.plugins

    @property
    def has_plugins(self) -> bool:
        """Whether any operator is our plugin."""
        return self.plugins != "none"

    @property
    def has_plan(self) -> bool:
        """Whether the engine is a TensorRT plan, beside the graph that it was built from."""
        return self.backend in TENSORRT


@dataclass(frozen=True)
class ModelConfig:
    """The inputs and outputs of a step, in numbers.

    Attributes:
        task: what the model was trained for.
        output: `logits` [R, vocab_size], or `hidden` [R, hidden_size] for embedding models.
        vocab_size: columns of the logits.
        tokenizer_vocab_size: columns that were trained; the rest is padding and never sampled.
        cache_dtype: element type of keys and values.
        max_context: tokens a sequence may hold, prompt and output together.
        max_batch: sequences a step may hold.
        max_step_tokens: new tokens a step may hold.
    """

    task: Task
    output: OutputKind
    vocab_size: int
    tokenizer_vocab_size: int
    hidden_size: int
    layers: int
    kv_heads: int
    head_dim: int
    cache_dtype: CacheType
    max_context: int
    max_batch: int
    max_step_tokens: int


@dataclass(frozen=True)
class ChatDefaults:
    """How the model wants to be talked to, unless a request says otherwise.

    Attributes:
        thinking: `hybrid` (switchable), `always` or `never`.
        thinking_budget: tokens of reasoning before the stop sentence; None for no budget.
        max_tokens: cap of new tokens.
        sampling: sampling parameters by mode, `thinking` and `non_thinking`.
    """

    thinking: Thinking
    thinking_budget: int | None
    max_tokens: int
    sampling: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class FileEntry:
    """The size in bytes and the SHA-256 (hex) that a file of the engine must have."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """An engine's manifest. `spec`, `source` and `tools` are kept as read: records, not settings.

    `verified` says whether the build compared the engine with PyTorch and found it within its accuracy limits.
    """

    name: str
    verified: bool
    target: EngineTarget
    io: ModelConfig
    chat: ChatDefaults | None
    eos_token_ids: tuple[int, ...]
    pad_token_id: int | None
    files: Mapping[str, FileEntry]
    spec: Mapping[str, Any]
    source: Mapping[str, Any]
    tools: Mapping[str, Any]


def parse_manifest(raw: bytes, where: str = MANIFEST) -> Manifest:
    """Read a manifest, refusing whatever its schema version does not define.

    Version 2 is read as the one before: it has other names for the target and for the tokenizer's vocabulary.

    Args:
        raw: the bytes of `manifest.json`.
        where: how errors name the file.

    Raises:
        DamagedEngineError: the JSON is damaged, or a field is missing, unknown or out of range.
        UnsupportedEngineError: the manifest has another schema version.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise DamagedEngineError(f"{where}: {len(raw)} bytes, more than the {MAX_MANIFEST_BYTES} a manifest may have")
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise DamagedEngineError(f"{where}: not valid JSON ({error}); the engine is damaged, build it again") from None
    root = JsonObject(document, where)
    version = root.value("schema_version")
    if type(version) is not int or version not in READABLE_VERSIONS:  # JSON's true and 2.0 equal integers in Python
        raise UnsupportedEngineError(
            f"{where}: schema_version is {version!r}, this runtime reads {' and '.join(map(str, READABLE_VERSIONS))}; "
            "rebuild the engine with a matching version of qwen3-compile"
        )
    if version == 2:
        root = JsonObject(_upgraded(root), where)
        root.value("schema_version")  # it was read above
    io = _parse_io(root.child("io"))
    chat = root.value("chat")
    manifest = Manifest(
        name=root.text("name"),
        verified=root.boolean("verified"),
        target=_parse_target(root.child("target")),
        io=io,
        chat=None if chat is None else _parse_chat(root.child("chat"), io),
        eos_token_ids=root.token_ids("eos_token_ids", io.vocab_size),
        pad_token_id=root.integer("pad_token_id", 0, io.vocab_size - 1, optional=True),
        files=_parse_files(root.child("files")),
        spec=root.record("spec"),
        source=root.record("source"),
        tools=root.record("tools"),
    )
    root.finish()
    return manifest


def _parse_target(target: JsonObject) -> EngineTarget:
    backend, provider = target.text("backend"), target.text("provider")
    # Other backends may have these fields too, with nothing in them.
    capabilities = target.texts("compute_capabilities") if target.filled("compute_capabilities") else ()
    if target.filled("profiles"):
        target.record("profiles")  # what the builder was asked for; the plan says what it has
    quantization: str = "none"
    if target.filled("activation_quantization"):
        quantization = target.choice("activation_quantization", get_args(ActivationQuantization))
    found = EngineTarget(
        backend,
        provider,
        _parse_plugins(target),
        capabilities,
        cast("ActivationQuantization", quantization),
    )
    if found.has_plan and not capabilities:
        raise DamagedEngineError(
            f"{target.where}: compute_capabilities must name a GPU architecture; build the engine again"
        )
    target.finish()
    return found


def _parse_plugins(target: JsonObject) -> Literal["all", "none"] | tuple[PluginName, ...]:
    if not isinstance(target.value("plugins"), list):
        return cast('Literal["all", "none"]', target.choice("plugins", ("all", "none")))
    names = target.texts("plugins")
    if not names:
        raise DamagedEngineError(f"{target.where}: plugins must name at least one, or be none")
    for name in names:
        if name not in get_args(PluginName):
            raise DamagedEngineError(
                f"{target.where}: plugins must be among {', '.join(get_args(PluginName))}, found {name!r}"
            )
    return cast("tuple[PluginName, ...]", names)


def _parse_io(io: JsonObject) -> ModelConfig:
    vocab_size = io.count("vocab_size")
    found = ModelConfig(
        task=cast("Task", io.choice("task", get_args(Task))),
        output=cast("OutputKind", io.choice("output", get_args(OutputKind))),
        vocab_size=vocab_size,
        tokenizer_vocab_size=io.count("tokenizer_vocab_size", vocab_size),
        hidden_size=io.count("hidden_size"),
        layers=io.count("layers", 4096),
        kv_heads=io.count("kv_heads", 4096),
        head_dim=io.count("head_dim", 4096),
        cache_dtype=cast("CacheType", io.choice("cache_dtype", get_args(CacheType))),
        max_context=io.count("max_context"),
        max_batch=io.count("max_batch", 65536),
        max_step_tokens=io.count("max_step_tokens"),
    )
    io.finish()
    return found


def _upgraded(root: JsonObject) -> dict[str, Any]:
    """The document of a manifest of version 2 under the names of version 3."""
    target, io = root.record("target"), root.record("io")
    for section, values, name in (("target", target, "plugins"), ("io", io, "tokenizer_vocab_size")):
        if name in values:
            raise DamagedEngineError(f"{root.where}: {section}: unknown field {name!r} in a manifest of version 2")
    values = dict(target)
    kernels = {name: values.pop(name, None) for name in get_args(PluginName)}
    for name, kind in kernels.items():
        if kind not in (None, "native", "plugin"):
            raise DamagedEngineError(f"{root.where}: target: {name} must be one of native, plugin, found {kind!r}")
    plugins: str | list[str] = [name for name, kind in kernels.items() if kind == "plugin"] or "none"
    if values.get("backend") == "ort-cpu":
        values["backend"], plugins = "ort", "all"
    return root.document | {
        "schema_version": SCHEMA_VERSION,
        "target": values | {"plugins": plugins},
        "io": {"tokenizer_vocab_size" if key == "live_vocab_size" else key: value for key, value in io.items()},
    }


def _parse_chat(chat: JsonObject, io: ModelConfig) -> ChatDefaults:
    sampling = chat.child("sampling")
    defaults = ChatDefaults(
        thinking=cast("Thinking", chat.choice("thinking", get_args(Thinking))),
        thinking_budget=chat.integer("thinking_budget", 0, MAX_COUNT, optional=True),
        max_tokens=chat.count("max_tokens"),
        sampling={mode: sampling.numbers(mode) for mode in ("thinking", "non_thinking") if sampling.has(mode)},
    )
    if io.output != "logits" and io.task == "chat":
        raise DamagedEngineError(f"{chat.where}: a chat engine must output logits, this one gives {io.output!r}")
    sampling.finish()
    chat.finish()
    return defaults


def _parse_files(listed: JsonObject) -> dict[str, FileEntry]:
    names = listed.keys()
    if len(names) > MAX_FILES:
        raise DamagedEngineError(f"{listed.where}: {len(names)} files, more than the {MAX_FILES} an engine may have")
    files = {}
    for name in names:
        if not _is_plain_name(name):
            raise DamagedEngineError(f"{listed.where}: {name!r} is not a plain file name inside the engine directory")
        entry = listed.child(name)
        digest = entry.text("sha256")
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise DamagedEngineError(f"{entry.where}: sha256 must be 64 lower-case hex digits, found {digest!r}")
        size = cast("int", entry.integer("size", 0, _MAX_FILE_BYTES))
        files[name] = FileEntry(size=size, sha256=digest)
        entry.finish()
    return files


def _is_plain_name(name: str) -> bool:
    """Whether a name can only mean a visible file directly inside the engine directory."""
    return (
        0 < len(name) <= 255
        and not name.startswith(".")
        and name != MANIFEST
        and not any(character in "/\\:" or not character.isprintable() for character in name)
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {repeated!r} appears twice")
    return document
