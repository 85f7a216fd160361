"""What a TensorRT engine takes and gives, by the manifest; and which optimisation profile holds a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_runtime.errors import DamagedEngineError, StepFailedError, UnsupportedEngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qwen3_runtime.backends.tensorrt.opened_plan import Tensor
    from qwen3_runtime.manifest import ModelConfig

# A dimension is a size, or the name of one that steps choose.
Dimension = int | str
Sizes = dict[str, int]

_CACHE_TYPES = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Slot:
    """An input or output that the manifest means."""

    is_input: bool
    dtype: str
    shape: tuple[Dimension, ...]


@dataclass(frozen=True)
class Profile:
    """The sizes that an optimisation profile of the plan allows: by dimension, smallest and largest."""

    index: int
    bounds: Mapping[str, tuple[int, int]]

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether every size lies within its bounds."""
        return all(low <= sizes[name] <= high for name, (low, high) in self.bounds.items() if name in sizes)


def padded_slots(contract: ModelConfig) -> dict[str, Slot]:
    """The padded contract: B sequences of S tokens, R rows, caches of `max_context` tokens."""
    cache = ("batch", contract.kv_heads, contract.max_context, contract.head_dim)
    slots = {
        "input_ids": Slot(True, "INT64", ("batch", "length")),
        "query_len": Slot(True, "INT32", ("batch",)),
        "context_len": Slot(True, "INT32", ("batch",)),
        "logits_rows": Slot(True, "INT64", ("rows",)),
        contract.output: Slot(False, "FLOAT", ("rows", width(contract))),
    }
    for name in cache_parts(contract):
        slots[f"kv.{name}"] = Slot(True, cache_type(contract), cache)
        slots[f"kv_out.{name}"] = Slot(False, cache_type(contract), cache)
    return slots


def packed_slots(contract: ModelConfig) -> dict[str, Slot]:
    """The packed contract: T tokens of B sequences, R rows, a pool of cache blocks."""
    cache = ("blocks", 2, contract.kv_heads, "block", contract.head_dim)
    slots = {
        "input_ids": Slot(True, "INT64", ("tokens",)),
        "query_start": Slot(True, "INT32", ("batch + 1",)),
        "context_len": Slot(True, "INT32", ("batch",)),
        "block_table": Slot(True, "INT32", ("batch", "blocks of a sequence")),
        "logits_rows": Slot(True, "INT32", ("rows",)),
        contract.output: Slot(False, "FLOAT", ("rows", width(contract))),
    }
    for layer in range(contract.layers):
        slots[f"kv.{layer}"] = Slot(True, cache_type(contract), cache)
        slots[f"kv_out.{layer}"] = Slot(False, cache_type(contract), cache)
    return slots


def cache_parts(contract: ModelConfig) -> list[str]:
    """Names of the caches of the padded contract: `0.key`, `0.value`, `1.key` and so on."""
    return [f"{layer}.{part}" for layer in range(contract.layers) for part in ("key", "value")]


def width(contract: ModelConfig) -> int:
    """Columns of the output."""
    return contract.vocab_size if contract.output == "logits" else contract.hidden_size


def cache_type(contract: ModelConfig) -> str:
    """TensorRT's name of the cache's element type.

    Raises:
        EngineError: these engines have no such cache.
    """
    if contract.cache_dtype not in _CACHE_TYPES:
        raise UnsupportedEngineError(
            f"the engine's cache is {contract.cache_dtype}; this backend has {', '.join(_CACHE_TYPES)}"
        )
    return _CACHE_TYPES[contract.cache_dtype]


def element_bytes(contract: ModelConfig) -> int:
    """Bytes of an element of the cache."""
    return 4 if contract.cache_dtype == "float32" else 2


def check_signature(slots: Mapping[str, Slot], tensors: Mapping[str, Tensor]) -> None:
    """Hold a plan to the manifest, so that no memory is bound at a wrong size.

    Args:
        slots: what the manifest means, by name.
        tensors: what the plan has, by name.

    Raises:
        EngineError: naming the first difference.
    """
    if slots.keys() != tensors.keys():
        name = min(slots.keys() ^ tensors.keys())
        has = ("the manifest", "the plan") if name in slots else ("the plan", "the manifest")
        raise DamagedEngineError(f"model.plan: {has[0]} has {name!r}, {has[1]} has not; build the engine again")
    for name, slot in slots.items():
        tensor = tensors[name]
        for what, meant, found in (
            ("direction", "an input" if slot.is_input else "an output", "an input" if tensor.is_input else "an output"),
            ("element type", slot.dtype, tensor.dtype),
            ("place", "the device", "the device" if tensor.on_device else "the host"),
            ("number of dimensions", len(slot.shape), len(tensor.shape)),
        ):
            if meant != found:
                raise DamagedEngineError(
                    f"model.plan: {what} of {name!r}: the manifest means {meant}, the plan has {found}; "
                    "build the engine again"
                )
        for axis, (meant, size) in enumerate(zip(slot.shape, tensor.shape, strict=True)):
            # A named dimension may turn out fixed; `read_profiles` then finds its one size.
            if isinstance(meant, int) and meant != size:
                raise DamagedEngineError(
                    f"model.plan: {name!r} has shape {tensor.shape}, the manifest means {meant} on axis {axis}; "
                    "build the engine again"
                )


def check_aliases(slots: Mapping[str, Slot], tensors: Mapping[str, Tensor]) -> None:
    """Hold a plan to caches in place: TensorRT's own cache update gives its input's memory as output.

    Raises:
        EngineError: a cache's output is another tensor than its input.
    """
    for name in slots:
        if name.startswith("kv_out.") and tensors[name].alias != name.replace("kv_out.", "kv.", 1):
            raise DamagedEngineError(
                f"model.plan: {name!r} is not written in place (it shares memory with "
                f"{tensors[name].alias or 'no input'}); build the engine again"
            )


def read_profiles(slots: Mapping[str, Slot], tensors: Mapping[str, Tensor]) -> list[Profile]:
    """The sizes that each optimisation profile allows, the narrowest profile first.

    Args:
        slots: what the manifest means; checked against `tensors`.
        tensors: what the plan has.

    Raises:
        EngineError: two inputs of a profile disagree about a dimension, or there is no profile.
    """
    inputs = {name: slot for name, slot in slots.items() if slot.is_input}
    count = min(len(tensors[name].profiles) for name in inputs)
    profiles = []
    for index in range(count):
        bounds: dict[str, tuple[int, int]] = {}
        for name, slot in inputs.items():
            smallest, _, largest = tensors[name].profiles[index]
            for dimension, low, high in zip(slot.shape, smallest, largest, strict=True):
                if isinstance(dimension, str) and bounds.setdefault(dimension, (low, high)) != (low, high):
                    raise DamagedEngineError(
                        f"model.plan: optimisation profile {index} allows {low} to {high} for the {dimension} of "
                        f"{name!r}, {bounds[dimension][0]} to {bounds[dimension][1]} elsewhere; build the engine again"
                    )
        profiles.append(Profile(index, bounds))
    if not profiles:
        raise DamagedEngineError("model.plan: it has no optimisation profile; build the engine again")
    return sorted(profiles, key=lambda profile: sum(high for _, high in profile.bounds.values()))


def choose_profile(profiles: list[Profile], sizes: Mapping[str, int]) -> Profile:
    """The first profile that holds a step.

    Raises:
        EngineError: none does; with the sizes and what the widest allows.
    """
    for profile in profiles:
        if profile.holds(sizes):
            return profile
    widest = profiles[-1]
    name = next((name for name in sizes if not widest.holds({name: sizes[name]})), next(iter(sizes)))
    low, high = widest.bounds.get(name, (0, 0))
    raise StepFailedError(f"a step has {sizes[name]} as its {name}, the engine was built for {low} to {high}")


def measure(slots: Mapping[str, Slot], shapes: Mapping[str, tuple[int, ...]], known: Mapping[str, int]) -> Sizes:
    """The sizes that a step chose, from the shapes of its inputs.

    Args:
        slots: inputs and outputs.
        shapes: of inputs.
        known: sizes that the step has chosen already.

    Raises:
        EngineError: two inputs disagree.
    """
    sizes: Sizes = dict(known)
    for name, shape in shapes.items():
        for dimension, size in zip(slots[name].shape, shape, strict=True):
            if isinstance(dimension, str) and sizes.setdefault(dimension, size) != size:
                raise StepFailedError(f"a step has {size} as the {dimension} of {name!r}, {sizes[dimension]} elsewhere")
    return sizes
