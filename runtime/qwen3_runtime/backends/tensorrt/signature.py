"""Holds a TensorRT plan to the interface that the manifest expects; finds the optimization profile of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_graphs.interface import DIMENSIONS, StepInput
from qwen3_runtime.backends.elements import ELEMENTS
from qwen3_runtime.errors import DamagedEngineError, StepFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qwen3_graphs.interface import StepInterface, StepTensor
    from qwen3_runtime.backends.tensorrt.opened_plan import Tensor

Sizes = dict[str, int]


@dataclass(frozen=True)
class Profile:
    """The sizes that an optimization profile of the plan allows: by dimension, smallest and largest."""

    index: int
    bounds: Mapping[str, tuple[int, int]]

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether every size lies within its bounds."""
        return all(low <= sizes[name] <= high for name, (low, high) in self.bounds.items() if name in sizes)


def check_signature(interface: StepInterface, tensors: Mapping[str, Tensor]) -> None:
    """Hold a plan to the manifest, so that no memory is bound at a wrong size.

    Args:
        interface: what the manifest expects.
        tensors: what the plan has, by name.

    Raises:
        EngineError: naming the first difference.
    """
    slots: dict[str, StepTensor] = {each.name: each for each in (*interface.inputs, *interface.outputs)}
    if slots.keys() != tensors.keys():
        name = min(slots.keys() ^ tensors.keys())
        has = ("the manifest", "the plan") if name in slots else ("the plan", "the manifest")
        raise DamagedEngineError(f"model.plan: {has[0]} has {name!r}, {has[1]} has not; build the engine again")
    for name, slot in slots.items():
        tensor = tensors[name]
        for what, meant, found in (
            ("direction", _direction(is_input=isinstance(slot, StepInput)), _direction(is_input=tensor.is_input)),
            ("element type", ELEMENTS[slot.element].tensorrt_name, tensor.dtype),
            ("place", "the device", "the device" if tensor.on_device else "the host"),
            ("number of dimensions", len(slot.shape), len(tensor.shape)),
        ):
            if meant != found:
                raise DamagedEngineError(
                    f"model.plan: {what} of {name!r}: the manifest expects {meant}, the plan has {found}; "
                    "build the engine again"
                )
        for axis, (meant, size) in enumerate(zip(slot.shape, tensor.shape, strict=True)):
            # A named dimension may turn out fixed; `read_profiles` then finds its one size.
            if isinstance(meant, int) and meant != size:
                raise DamagedEngineError(
                    f"model.plan: {name!r} has shape {tensor.shape}, the manifest expects {meant} on axis {axis}; "
                    "build the engine again"
                )


def _direction(*, is_input: bool) -> str:
    return "an input" if is_input else "an output"


def check_aliases(interface: StepInterface, tensors: Mapping[str, Tensor]) -> None:
    """Hold a plan to caches in place: TensorRT's own cache update gives its input's memory as output.

    Raises:
        EngineError: a cache's output is another tensor than its input.
    """
    for name, output in interface.written.items():
        if tensors[output.name].alias != name:
            raise DamagedEngineError(
                f"model.plan: {output.name!r} is not written in place (it shares memory with "
                f"{tensors[output.name].alias or 'no input'}); build the engine again"
            )


def read_profiles(interface: StepInterface, tensors: Mapping[str, Tensor]) -> list[Profile]:
    """The sizes that each optimization profile allows, the narrowest profile first.

    Args:
        interface: what the manifest expects; checked against `tensors`.
        tensors: what the plan has.

    Raises:
        EngineError: two inputs of a profile disagree about a dimension, or there is no profile.
    """
    count = min(len(tensors[each.name].profiles) for each in interface.inputs)
    profiles = []
    for index in range(count):
        bounds: dict[str, tuple[int, int]] = {}
        for each in interface.inputs:
            smallest, _, largest = tensors[each.name].profiles[index]
            for dimension, low, high in zip(each.shape, smallest, largest, strict=True):
                if isinstance(dimension, str) and bounds.setdefault(dimension, (low, high)) != (low, high):
                    raise DamagedEngineError(
                        f"model.plan: optimization profile {index} allows {low} to {high} {DIMENSIONS[dimension]} for "
                        f"{each.name!r}, {bounds[dimension][0]} to {bounds[dimension][1]} elsewhere; "
                        "build the engine again"
                    )
        profiles.append(Profile(index, bounds))
    if not profiles:
        raise DamagedEngineError("model.plan: it has no optimization profile; build the engine again")
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
    raise StepFailedError(f"a step has {sizes[name]} {DIMENSIONS[name]}, the engine was built for {low} to {high}")


def step_sizes(interface: StepInterface, shapes: Mapping[str, tuple[int, ...]], known: Mapping[str, int]) -> Sizes:
    """The sizes that a step chose, from the shapes of its inputs.

    Args:
        interface: inputs and outputs.
        shapes: of inputs.
        known: sizes that the step has chosen already.

    Raises:
        EngineError: two inputs disagree.
    """
    sizes: Sizes = dict(known)
    declared = {each.name: each.shape for each in interface.inputs}
    for name, shape in shapes.items():
        for dimension, size in zip(declared[name], shape, strict=True):
            if isinstance(dimension, str) and sizes.setdefault(dimension, size) != size:
                raise StepFailedError(
                    f"a step has {size} {DIMENSIONS[dimension]} by {name!r}, {sizes[dimension]} elsewhere"
                )
    return sizes
