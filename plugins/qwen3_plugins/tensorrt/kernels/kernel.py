"""How a kernel is described: what is fixed when an engine is built, and its launch as a function of the rest.

A description is what both sides need: `qwen3_plugins.tensorrt.compile` makes PTX and a cubin of it, the plugins launch
it. It can be made without Triton, which is imported when the device function is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Role = Literal["input", "scalar", "output"]

Size = Any
"""An int, or an expression over symbolic sizes with `+`, `*` and `//` by a positive int (TensorRT's `ShapeExpr`)."""

Grid = tuple[Size, Size, Size]


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel.

    Attributes:
        name: as in the device function.
        type: Triton's name: `*fp16`, `*bf16`, `*fp32`, `*i32`, `*u8`, ... for pointers, `i32` for scalars.
        role: inputs come first, then scalars (int32), then outputs: the order of TensorRT's ahead-of-time plugins.
    """

    name: str
    type: str
    role: Role


@dataclass(frozen=True)
class Kernel:
    """One device function with its types and constants.

    Attributes:
        name: unique among an engine's kernels, such as `attention_append`.
        module: of the device function.
        function: the device function's name, which is also the entry point's in PTX and cubin.
        arguments: in the device function's order. All pointers are aligned to 16 bytes.
        constants: values of its `constexpr` parameters, which follow the arguments.
        grid: the launch's grid, called with sizes as keywords; the names are given where the kernel is made.
        warps: of a block; a block is 32 * warps threads wide.
        stages: loads that are in flight at a time in a pipelined loop.
    """

    name: str
    module: str
    function: str
    arguments: tuple[Argument, ...]
    constants: Mapping[str, int | float | bool | str]
    grid: Callable[..., Grid] = field(compare=False)
    warps: int = 4
    stages: int = 3

    def device_function(self) -> Any:  # noqa: ANN401 - Triton has no types
        """The function that `triton.jit` made; imports Triton."""
        return getattr(import_module(self.module), self.function)

    def of_role(self, role: Role) -> tuple[str, ...]:
        """Names of the inputs, scalars or outputs, in order."""
        return tuple(argument.name for argument in self.arguments if argument.role == role)


def arguments(inputs: Mapping[str, str], scalars: tuple[str, ...], outputs: Mapping[str, str]) -> tuple[Argument, ...]:
    """Arguments in the order that every kernel keeps: inputs {name: type}, int32 scalars, outputs {name: type}."""
    return (
        *(Argument(name, kind, "input") for name, kind in inputs.items()),
        *(Argument(name, "i32", "scalar") for name in scalars),
        *(Argument(name, kind, "output") for name, kind in outputs.items()),
    )
