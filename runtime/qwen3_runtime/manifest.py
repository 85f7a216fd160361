"""The manifest of an engine: what it computes, which files it is made of, and how it chats by default."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from qwen3_runtime.errors import DamagedEngineError, UnsupportedEngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 2  # 1: engines of ort-cpu whose head gave nothing but all logits
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILES = 64
# Far above any released model, far below what would make the runtime's own arithmetic or allocations misbehave.
_MAX_COUNT = 1 << 31
_MAX_FILE_BYTES = 1 << 43

Task = Literal["chat", "completion", "embedding", "reranker"]
Output = Literal["logits", "hidden"]
Thinking = Literal["hybrid", "always", "never"]
CacheType = Literal["float32", "float16", "bfloat16", "int8"]
Kernels = Literal["native", "plugin"]
ActivationQuantization = Literal["none", "int8"]

TENSORRT = ("tensorrt", "tensorrt-rtx")
"""Backends whose engines hold a plan beside the graph that it was made from."""


@dataclass(frozen=True)
class Target:
    """What the engine was lowered for: the runtime's backend and the provider that executes it.

    Attributes:
        compute_capabilities: GPU architectures of a TensorRT plan, as `8.9`.
        attention: of a TensorRT plan: its own, with the padded contract, or our plugin, with the packed one.
        moe: of a TensorRT plan with experts: standard layers, or our plugin.
        activation_quantization: of a graph in standard operators: whether ONNX Runtime rounds the inputs of quantised
            matrices to int8.
    """

    backend: str
    provider: str
    compute_capabilities: tuple[str, ...] = ()
    attention: Kernels = "native"
    moe: Kernels = "native"
    activation_quantization: ActivationQuantization = "none"


@dataclass(frozen=True)
class Contract:
    """The inputs and outputs of a step, in numbers.

    Attributes:
        task: what the model was trained for.
        output: `logits` [R, vocab_size], or `hidden` [R, hidden_size] for embedding models.
        vocab_size: columns of the logits.
        live_vocab_size: columns that were trained; the rest is padding and never sampled.
        cache_dtype: element type of keys and values.
        max_context: tokens a sequence may hold, prompt and output together.
        max_batch: sequences a step may hold.
        max_step_tokens: new tokens a step may hold.
    """

    task: Task
    output: Output
    vocab_size: int
    live_vocab_size: int
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
    """An engine's manifest, schema version 2. `spec`, `source` and `tools` are kept as read: records, not settings.

    `verified` says whether the build compared the engine with PyTorch and its accuracy contract held.
    """

    name: str
    verified: bool
    target: Target
    io: Contract
    chat: ChatDefaults | None
    eos_token_ids: tuple[int, ...]
    pad_token_id: int | None
    files: Mapping[str, FileEntry]
    spec: Mapping[str, Any]
    source: Mapping[str, Any]
    tools: Mapping[str, Any]


def parse_manifest(raw: bytes, where: str = "manifest.json") -> Manifest:
    """Read a manifest, refusing whatever schema version 2 does not define.

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
    root = _Object(document, where)
    version = root.value("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:  # JSON's true and 2.0 equal integers in Python
        raise UnsupportedEngineError(
            f"{where}: schema_version is {version!r}, this runtime reads {SCHEMA_VERSION}; "
            "rebuild the engine with a matching version of qwen3-compile"
        )
    contract = _parse_contract(root.child("io"))
    chat = root.value("chat")
    manifest = Manifest(
        name=root.text("name"),
        verified=root.boolean("verified"),
        target=_parse_target(root.child("target")),
        io=contract,
        chat=None if chat is None else _parse_chat(root.child("chat"), contract),
        eos_token_ids=root.token_ids("eos_token_ids", contract.vocab_size),
        pad_token_id=root.integer("pad_token_id", 0, contract.vocab_size - 1, optional=True),
        files=_parse_files(root.child("files")),
        spec=root.record("spec"),
        source=root.record("source"),
        tools=root.record("tools"),
    )
    root.finish()
    return manifest


def _parse_target(target: _Object) -> Target:
    backend, provider = target.text("backend"), target.text("provider")
    # Other backends may have these fields too, with nothing in them.
    kernels = {key: target.choice(key, get_args(Kernels)) for key in ("attention", "moe") if target.filled(key)}
    capabilities = target.texts("compute_capabilities") if target.filled("compute_capabilities") else ()
    if target.filled("profiles"):
        target.record("profiles")  # what the builder was asked for; the plan says what it has
    if backend in TENSORRT and not capabilities:
        raise DamagedEngineError(
            f"{target.where}: compute_capabilities must name a GPU architecture; build the engine again"
        )
    rounding: str = "none"
    if target.filled("activation_quantization"):
        rounding = target.choice("activation_quantization", get_args(ActivationQuantization))
    target.finish()
    return Target(
        backend,
        provider,
        capabilities,
        **cast("dict[str, Kernels]", kernels),
        activation_quantization=cast("ActivationQuantization", rounding),
    )


def _parse_contract(io: _Object) -> Contract:
    vocab_size = io.count("vocab_size")
    contract = Contract(
        task=cast("Task", io.choice("task", get_args(Task))),
        output=cast("Output", io.choice("output", get_args(Output))),
        vocab_size=vocab_size,
        live_vocab_size=io.count("live_vocab_size", vocab_size),
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
    return contract


def _parse_chat(chat: _Object, contract: Contract) -> ChatDefaults:
    sampling = chat.child("sampling")
    defaults = ChatDefaults(
        thinking=cast("Thinking", chat.choice("thinking", get_args(Thinking))),
        thinking_budget=chat.integer("thinking_budget", 0, _MAX_COUNT, optional=True),
        max_tokens=chat.count("max_tokens"),
        sampling={mode: sampling.numbers(mode) for mode in ("thinking", "non_thinking") if sampling.has(mode)},
    )
    if contract.output != "logits" and contract.task == "chat":
        raise DamagedEngineError(f"{chat.where}: a chat engine must output logits, this one gives {contract.output!r}")
    sampling.finish()
    chat.finish()
    return defaults


def _parse_files(listed: _Object) -> dict[str, FileEntry]:
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
            raise DamagedEngineError(f"{entry.where}: sha256 must be 64 lower-case hex digits, got {digest!r}")
        size = cast("int", entry.integer("size", 0, _MAX_FILE_BYTES))
        files[name] = FileEntry(size=size, sha256=digest)
        entry.finish()
    return files


def _is_plain_name(name: str) -> bool:
    """Whether a name can only mean a visible file directly inside the engine directory."""
    return (
        0 < len(name) <= 255
        and not name.startswith(".")
        and name != "manifest.json"
        and not any(character in "/\\:" or not character.isprintable() for character in name)
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {repeated!r} appears twice")
    return document


class _Object:
    """A JSON object read field by field; `finish` refuses the fields that nobody asked for."""

    def __init__(self, document: object, where: str) -> None:
        if not isinstance(document, dict):
            raise DamagedEngineError(f"{where}: expected an object, got {_kind(document)}")
        self.where = where
        self._document: dict[str, Any] = document
        self._unread = set(document)

    def keys(self) -> list[str]:
        return list(self._document)

    def has(self, key: str) -> bool:
        return key in self._document

    def filled(self, key: str) -> bool:
        """Whether an optional field is there and not null."""
        return self.has(key) and self.value(key) is not None

    def value(self, key: str) -> Any:  # noqa: ANN401 - any JSON value
        if key not in self._document:
            raise DamagedEngineError(
                f"{self.where}: the field {key!r} is missing; the engine is damaged, build it again"
            )
        self._unread.discard(key)
        return self._document[key]

    def child(self, key: str) -> _Object:
        return _Object(self.value(key), f"{self.where}: {key}")

    def record(self, key: str) -> dict[str, Any]:
        return self.child(key)._document

    def text(self, key: str) -> str:
        value = self.value(key)
        if not isinstance(value, str) or not value:
            raise self._wrong(key, "a non-empty string", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.value(key)
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self._wrong(key, "a list of strings", value)
        return tuple(value)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.value(key)
        if value not in choices:
            raise self._wrong(key, f"one of {', '.join(choices)}", value)
        return cast("str", value)

    def boolean(self, key: str) -> bool:
        value = self.value(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def integer(self, key: str, low: int, high: int, *, optional: bool = False) -> int | None:
        value = self.value(key)
        if value is None and optional:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"an integer from {low} to {high}", value)
        return value

    def count(self, key: str, high: int = _MAX_COUNT) -> int:
        return cast("int", self.integer(key, 1, high))

    def token_ids(self, key: str, vocab_size: int) -> tuple[int, ...]:
        value = self.value(key)
        if not isinstance(value, list) or not all(type(item) is int and 0 <= item < vocab_size for item in value):
            raise self._wrong(key, f"a list of token ids below {vocab_size}", value)
        return tuple(value)

    def numbers(self, key: str) -> dict[str, float]:
        fields = self.record(key)
        for name, value in fields.items():
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise DamagedEngineError(f"{self.where}: {key}.{name}: expected a number, got {_kind(value)}")
        return dict(fields)

    def finish(self) -> None:
        if self._unread:
            raise DamagedEngineError(
                f"{self.where}: unknown field {min(self._unread)!r}; "
                "the engine was made by a newer qwen3-compile, or was edited"
            )

    def _wrong(self, key: str, expected: str, found: object) -> DamagedEngineError:
        shown = repr(found)
        return DamagedEngineError(f"{self.where}: {key} must be {expected}, got {shown[:80]}")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
