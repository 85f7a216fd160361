"""What a scheme is: how the matrices of a checkpoint are stored, and who reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from qwen3_compile.checkpoint.safetensors_file import StoredTensor
    from qwen3_compile.quantize import Stored
    from qwen3_compile.spec.schema import Fp8Scale
    from qwen3_graphs.formats import WeightKind

SCALE_TYPES = ("BF16", "F16", "F32")


class StoredWeight(Protocol):
    """A weight where it lies, in one tensor of a file or in several."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight that it stands for, whatever the shape of its codes."""

    @property
    def element_type(self) -> str:
        """As `TensorInfo.dtype` has it."""

    @property
    def parts(self) -> tuple[StoredTensor, ...]:
        """The tensors that it is made of, its elements or codes first."""

    def read(self, name: str) -> Stored:
        """Read the weight.

        Args:
            name: of the weight, for errors.

        Raises:
            CheckpointError: a part of it is damaged, or its file changed.
        """


@dataclass(frozen=True)
class StoredFormat:
    """What `precision` of a spec says to take matrices as a checkpoint has them; all None where they are floats.

    Attributes:
        weights: their kind.
        fp8_scales: weights that share a scale, in E4M3.
        group_size: inputs that share a scale, in an integer format; a spec may not offer it.
    """

    weights: WeightKind | None = None
    fp8_scales: Fp8Scale | None = None
    group_size: int | None = None


@dataclass(frozen=True)
class Scheme:
    """One way to store quantized matrices. The functions get the `quantization_config` of config.json as `stated`.

    Attributes:
        name: for errors; of a quantized scheme, what `stated` calls it.
        is_stated: whether a `quantization_config` is of this scheme.
        is_stored: whether tensors, by canonical name, are, where config.json has no `quantization_config`.
        problems: what of a `quantization_config` of this scheme is not read: "KEY is FOUND, expected ACCEPTED".
        format_of: how a spec takes the matrices as they are; `stated` has no problems.
        take: takes every tensor of a quantized matrix out of tensors by canonical name, and returns the matrices by
            canonical name (`X.weight`). What it leaves is read as it is. Raises CheckpointError where tensors do not
            belong together.
    """

    name: str
    is_stated: Callable[[Mapping[str, Any]], bool]
    is_stored: Callable[[Mapping[str, StoredTensor]], bool]
    problems: Callable[[Mapping[str, Any]], Iterable[str]]
    format_of: Callable[[Mapping[str, Any]], StoredFormat]
    take: Callable[[dict[str, StoredTensor]], Mapping[str, StoredWeight]]


def differences(stated: Mapping[str, Any], accepted: Mapping[str, tuple[Any, ...]], *, of: str = "") -> Iterable[str]:
    """Yield a line for each key that is there with another value than the accepted ones.

    Args:
        stated: a JSON object.
        accepted: values by key.
        of: what stands behind the key in a line.
    """
    for key, values in accepted.items():
        if key in stated and stated[key] not in values:
            yield f"{key}{of} is {stated[key]!r}, expected {' or '.join(map(repr, values))}"
