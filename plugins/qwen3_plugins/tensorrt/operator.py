"""What TensorRT has to know of one of our operators, independent of the interface that asks for it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from qwen3_plugins.tensorrt.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qwen3_plugins.tensorrt.kernels.kernel import Kernel

DOMAIN = "qwen3"
VERSION = "1"
FLOATS = ("fp16", "bf16")
ELEMENT_BYTES = {"fp32": 4, "i32": 4, "fp16": 2, "bf16": 2, "i8": 1}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Scratch:
    """A place in the operator's workspace, `offset` bytes from its beginning."""

    offset: int


@dataclass(frozen=True)
class Launch:
    """One kernel of an operator's execution.

    Attributes:
        name: of the kernel, as in `Operator.kernels`.
        grid: programs along x, y and z.
        arguments: in the kernel's order: a tensor of the operator by name, a place in the workspace, or an integer.
    """

    name: str
    grid: tuple[int, int, int]
    arguments: tuple[str | Scratch | int, ...]


class Operator(Protocol):
    """An operator with its attributes, which are the fields of a frozen dataclass: int, float or str.

    Shapes are those of the inputs in order; what is not known yet is -1. `activations` is the first input's type.

    Attributes:
        NAME: of the ONNX operator and of the plugin.
        INPUTS: names of the inputs, in order.
        OUTPUTS: names of the outputs, in order.
        ALIASES: for an output that is an input's memory, the input.
    """

    NAME: ClassVar[str]
    INPUTS: ClassVar[tuple[str, ...]]
    OUTPUTS: ClassVar[tuple[str, ...]]
    ALIASES: ClassVar[Mapping[str, str]]

    def types(self, activations: str) -> tuple[str, ...]:
        """Return the element types of inputs and outputs, in order."""
        ...

    def output_sources(self) -> tuple[int, ...]:
        """Return for each output the input whose shape it has."""
        ...

    def check(self, shapes: Sequence[Shape]) -> None:
        """Refuse, by `PluginError`, shapes that the kernels do not compute."""
        ...

    def workspace(self, activations: str, shapes: Sequence[Shape]) -> int:
        """Return the bytes of scratch memory for inputs of these shapes; smaller ones need no more."""
        ...

    def kernels(self, activations: str, shapes: Sequence[Shape], capability: int) -> Mapping[str, Kernel]:
        """Return every kernel that `launches` may ask for, on a GPU of compute capability `capability` / 10."""
        ...

    def launches(self, activations: str, shapes: Sequence[Shape], capability: int) -> tuple[Launch, ...]:
        """Return the kernels that compute the operator, in order; all shapes are known."""
        ...


def attribute_types(operator: type[Operator]) -> dict[str, type]:
    """Return the attributes of an operator, in order: int, float or str."""
    kinds: dict[str, type] = {"int": int, "float": float, "str": str}
    return {field.name: kinds[str(field.type)] for field in fields(operator)}  # type: ignore[arg-type]  # a dataclass


def with_attributes(operator: type[Operator], given: Mapping[str, Any]) -> Operator:
    """Make an operator of the attributes of an ONNX node or a plan.

    Raises:
        PluginError: an attribute is missing, or has a value that the operator refuses.
    """
    expected = attribute_types(operator)
    if missing := [name for name in expected if name not in given]:
        raise PluginError(f"{operator.NAME}: attribute {missing[0]} is missing, expected {', '.join(expected)}")
    return operator(**{name: kind(given[name]) for name, kind in expected.items()})


def check_type(operator: Operator, position: int, found: Sequence[str]) -> None:
    """Refuse a tensor, at `position` among inputs and then outputs, whose type does not go with the first input's.

    Raises:
        PluginError: naming it.
    """
    names = (*operator.INPUTS, *operator.OUTPUTS)
    expected = " or ".join(FLOATS) if found[0] not in FLOATS else operator.types(found[0])[position]
    if found[0] not in FLOATS or found[position] != expected:
        raise PluginError(f"{operator.NAME}: {names[position]} is {expected}, found {found[position]}")


def check_ranks(operator: Operator, expected: Sequence[int], shapes: Sequence[Shape]) -> None:
    """Refuse another number of inputs, or an input with another number of dimensions than `expected`.

    Raises:
        PluginError: naming the first input that differs.
    """
    if len(shapes) != len(operator.INPUTS):
        raise PluginError(f"{operator.NAME}: {len(operator.INPUTS)} inputs expected, found {len(shapes)}")
    for name, rank, found in zip(operator.INPUTS, expected, shapes, strict=True):
        if len(found) != rank:
            raise PluginError(f"{operator.NAME}: {name} has {rank} dimensions, found {list(found)}")


def check_elements(operator: Operator, elements: Mapping[str, int]) -> None:
    """Refuse tensors, by their number of elements, whose places the kernels' 32-bit integers do not count.

    Raises:
        PluginError: naming the first; a smaller largest step helps.
    """
    for name, count in elements.items():
        if count >= 2**31:
            raise PluginError(
                f"{operator.NAME}: {name} has {count} elements, expected fewer than 2**31: limit the step"
            )


def check_shapes(operator: Operator, expected: Sequence[tuple[int | str, ...]], shapes: Sequence[Shape]) -> None:
    """Refuse inputs of other shapes than `expected`; a name there stands for the same size wherever it is used.

    Raises:
        PluginError: naming the first input that differs.
    """
    sizes: dict[str, int] = {}
    for name, wanted, found in zip(operator.INPUTS, expected, shapes, strict=True):
        same = len(wanted) == len(found)
        for one, size in zip(wanted, found, strict=False):
            if isinstance(one, str) and size >= 0:
                same = same and sizes.setdefault(one, size) == size
            elif size >= 0:
                same = same and one == size
        if not same:
            text = ", ".join(f"{one} = {sizes[one]}" if one in sizes else str(one) for one in wanted)
            raise PluginError(f"{operator.NAME}: {name} is [{text}], found {list(found)}")
