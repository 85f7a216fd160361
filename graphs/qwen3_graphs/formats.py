"""How elements of weights are stored: one row of a table for each kind, and everything that follows from it.

Nothing here needs torch, ONNX or numpy; a kind's name is what a spec says. Who computes with a kind is said elsewhere:
`qwen3_compile.quantize` registers how values become codes, each target's lowering which formats its operators take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

FloatKind = Literal["fp32", "fp16", "bf16"]
WeightKind = Literal["fp32", "fp16", "bf16", "fp8", "int8", "int4", "uint4"]
CacheKind = Literal["fp32", "fp16", "bf16", "int8"]
Granularity = Literal["per-tensor", "per-channel", "per-group", "per-block"]


@dataclass(frozen=True)
class ElementKind:
    """An element type of weights.

    Attributes:
        bits: of an element.
        onnx_type: name of the `onnx_ir.DataType` of an element, or of its code.
        granularities: what can share a scale; empty where elements are values, not codes.
        code_range: lowest and highest code, for integers.
        zero_point: whether each group has a zero point: value = (code - zero point) * scale. Otherwise code * scale.

    Raises:
        ValueError: a kind with zero points whose codes are not stored without sign in at most four bits: the search for
            them (`qwen3_compile.quantize.asymmetric`) and their layouts know no others.
    """

    bits: int
    onnx_type: str
    granularities: tuple[Granularity, ...] = ()
    code_range: tuple[int, int] | None = None
    zero_point: bool = False

    def __post_init__(self) -> None:
        if self.zero_point and (self.code_range is None or self.code_range[0] != 0 or self.code_range[1] > 15):
            raise ValueError(
                f"expected codes from 0 to at most 15 with a zero point, found code_range {self.code_range}"
            )


KINDS: dict[str, ElementKind] = {
    "fp32": ElementKind(32, "FLOAT"),
    "fp16": ElementKind(16, "FLOAT16"),
    "bf16": ElementKind(16, "BFLOAT16"),
    "fp8": ElementKind(8, "FLOAT8E4M3FN", ("per-tensor", "per-channel", "per-block")),
    "int8": ElementKind(8, "INT8", ("per-channel", "per-group"), (-128, 127)),
    "int4": ElementKind(4, "INT4", ("per-group",), (-8, 7)),
    "uint4": ElementKind(4, "UINT4", ("per-group",), (0, 15), zero_point=True),
}
FLOATS = tuple(name for name, kind in KINDS.items() if not kind.granularities)
INTEGERS = tuple(name for name, kind in KINDS.items() if kind.code_range)


def onnx_type(kind: str) -> str:
    """Name of the `onnx_ir.DataType` that a kind is stored in, such as FLOAT16."""
    return KINDS[kind].onnx_type


@dataclass(frozen=True)
class MatrixBytes:
    """Bytes of a matrix: its elements or codes, their scales and their zero points."""

    codes: int
    scales: int
    zero_points: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.codes + self.scales + self.zero_points


@dataclass(frozen=True)
class WeightFormat:
    """How the elements of a matrix are stored.

    Attributes:
        kind: a key of `KINDS`. `fp8` is E4M3 (without infinities) times a scale.
        group_size: consecutive inputs that share a scale; 0 with any other granularity but blocks. For fp8, 128 means
            blocks of 128 x 128, as released checkpoints have them.
        per_tensor: one scale for the whole matrix, for fp8.
    """

    kind: WeightKind
    group_size: int = 0
    per_tensor: bool = False

    @property
    def name(self) -> str:
        """Kind and group size as a part of a name, such as `int4_32`."""
        return f"{self.kind}_{self.group_size}" if self.group_size else self.kind

    @property
    def bits(self) -> int:
        """Bits of an element or code."""
        return KINDS[self.kind].bits

    @property
    def onnx_type(self) -> str:
        """Name of the `onnx_ir.DataType` of an element or code."""
        return KINDS[self.kind].onnx_type

    @property
    def is_float(self) -> bool:
        """Whether elements are values, without scales."""
        return self.kind in FLOATS

    @property
    def is_integer(self) -> bool:
        """Whether elements are integer codes with scales."""
        return self.kind in INTEGERS

    @property
    def code_range(self) -> tuple[int, int]:
        """Lowest and highest integer code.

        Raises:
            ValueError: the format has no integer codes.
        """
        code_range = KINDS[self.kind].code_range
        if code_range is None:
            raise ValueError(f"{self.kind} has no integer codes: expected one of {', '.join(INTEGERS)}")
        return code_range

    @property
    def zero_code(self) -> int:
        """How code 0 is stored where codes are stored without sign, in formats without zero points."""
        return -self.code_range[0]

    @property
    def zero_point(self) -> bool:
        """Whether each group has a zero point: value = (code - zero point) * scale."""
        return KINDS[self.kind].zero_point

    @property
    def granularity(self) -> Granularity | None:
        """What shares a scale; None without scales."""
        if self.is_float:
            return None
        if self.per_tensor:
            return "per-tensor"
        if not self.group_size:
            return "per-channel"
        return "per-block" if "per-block" in KINDS[self.kind].granularities else "per-group"

    @property
    def description(self) -> str:
        """The format in words, for messages."""
        if self.is_float:
            return self.kind
        size = self.group_size
        detail = {"per-group": f" {size}", "per-block": f" {size} x {size}"}.get(str(self.granularity), "")
        return f"{self.kind} {self.granularity}{detail}"

    def groups(self, inputs: int) -> int:
        """Groups that a row of `inputs` elements makes, the last one padded; 1 in a format without groups."""
        return -(-inputs // self.group_size) if self.group_size else 1

    def padded_inputs(self, inputs: int) -> int:
        """Elements of a row of `inputs`, filled up to whole groups."""
        return self.groups(inputs) * (self.group_size or inputs)

    def scales(self, outputs: int, inputs: int) -> int:
        """Scales of a matrix [outputs, inputs]."""
        match self.granularity:
            case None:
                return 0
            case "per-tensor":
                return 1
            case "per-block":
                return -(-outputs // self.group_size) * self.groups(inputs)
            case _:
                return outputs * self.groups(inputs)

    def matrix_bytes(self, outputs: int, inputs: int, *, scale_bits: int = 32) -> MatrixBytes:
        """Bytes of a matrix [outputs, inputs]: each row of codes filled up to whole groups, zero points to bytes."""
        width = self.padded_inputs(inputs) if self.granularity == "per-group" else inputs
        zero_points = outputs * -(-self.groups(inputs) * self.bits // 8) if self.zero_point else 0
        codes = outputs * -(-width * self.bits // 8)
        return MatrixBytes(codes, self.scales(outputs, inputs) * scale_bits // 8, zero_points)


def formats_in_groups(*kinds: str, sizes: tuple[int, ...] = (32, 64, 128)) -> tuple[WeightFormat, ...]:
    """Each kind in groups of each size, by default those that a spec can ask for; 0 is without groups."""
    return tuple(WeightFormat(cast("WeightKind", kind), size) for kind in kinds for size in sizes)
