"""The few PTX instructions that our kernels' inline assembly uses, in NumPy, so that Triton's interpreter runs it too.

What an instruction does is taken from NVIDIA's PTX ISA, section "Instruction Set"; an instruction or a form that is not
here is an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt

    Words = npt.NDArray[np.uint32]


def run(assembly: str, inputs: list[Words], outputs: int) -> list[Words]:
    """Run straight-line PTX on 32-bit registers.

    Args:
        assembly: with `$0`.. the outputs, then the inputs.
        inputs: values of the input registers, one element for each thread.
        outputs: how many output registers there are.

    Returns:
        The outputs, uint32 as the inputs.
    """
    registers = {f"${outputs + place}": words for place, words in enumerate(inputs)}
    like = inputs[0]

    def value(text: str) -> Words:
        if text[0].isdigit():
            return np.full_like(like, int(text, 0))
        return registers[text]

    for statement in re.sub(r"//[^\n]*", "", assembly).strip().removeprefix("{").removesuffix("}").split(";"):
        words = statement.replace(",", " ").split()
        if not words or words[0] == ".reg":
            continue
        name, target, *sources = words
        registers[target] = _INSTRUCTIONS[name](*(value(source) for source in sources))
    return [registers[f"${place}"] for place in range(outputs)]


def _prmt(a: Words, b: Words, selectors: Words) -> Words:
    selector = _same(selectors)
    out = np.zeros_like(a)
    for place in range(4):
        choice = selector >> 4 * place & 0xF
        assert choice < 8, "prmt: replicating a sign is not written here"
        byte = (a, b)[choice // 4] >> np.uint32(8 * (choice % 4)) & np.uint32(0xFF)
        out |= byte << np.uint32(8 * place)
    return out


def _lop3(a: Words, b: Words, c: Words, tables: Words) -> Words:
    table = _same(tables)
    out = np.zeros_like(a)
    for place in (place for place in range(8) if table >> place & 1):
        terms = [word if place & bit else ~word for word, bit in ((a, 4), (b, 2), (c, 1))]
        out |= terms[0] & terms[1] & terms[2]
    return out


def _same(words: Words) -> int:
    """The value of an immediate operand."""
    assert (words == words[0]).all()
    return int(words[0])


def _halves(words: Words, kind: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(words).view(np.uint16)).view(kind).double()


def _packed(values: torch.Tensor, kind: torch.dtype) -> Words:
    # The instructions round once. PyTorch rounds twice, through float32: the same where float32 holds the value.
    assert torch.equal(values.float().double(), values)
    return values.to(kind).view(torch.uint16).numpy().view(np.uint32)


def _fma(kind: torch.dtype) -> Any:
    def fma(a: Words, b: Words, c: Words) -> Words:
        return _packed(_halves(a, kind) * _halves(b, kind) + _halves(c, kind), kind)

    return fma


_INSTRUCTIONS = {
    "mov.b32": lambda a: a,
    "and.b32": np.bitwise_and,
    "shr.u32": np.right_shift,
    "prmt.b32": _prmt,
    "lop3.b32": _lop3,
    "sub.f16x2": lambda a, b: _packed(_halves(a, torch.float16) - _halves(b, torch.float16), torch.float16),
    "mul.f16x2": lambda a, b: _packed(_halves(a, torch.float16) * _halves(b, torch.float16), torch.float16),
    "fma.rn.f16x2": _fma(torch.float16),
    "fma.rn.bf16x2": _fma(torch.bfloat16),
}


def teach_interpreter() -> None:
    """Let Triton's interpreter run assembly on bytes, four at a time, that returns 16-bit values."""
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def create_inline_asm(self, assembly, constraints, handles, types, pure, pack):  # noqa: ARG001 - Triton's order
        (code,) = handles
        outputs = constraints.count("=r")
        assert pack == 4
        assert code.data.dtype == np.uint8
        assert outputs == 2 * len(types)
        words = np.ascontiguousarray(code.data).reshape(-1).view(np.uint32)
        results = run(assembly, [words], outputs)
        made = []
        for place, kind in enumerate(types):
            # The first of a pair of registers holds elements 0 and 1, the second 2 and 3; the lower half comes first.
            pair = np.stack(results[2 * place : 2 * place + 2], axis=1).reshape(-1).view(np.uint16)
            stored = np.float16 if str(kind.scalar) == "fp16" else np.uint16
            made.append(TensorHandle(pair.view(stored).reshape(code.data.shape), kind.scalar))
        return _Call(made)

    InterpreterBuilder.create_inline_asm = create_inline_asm


class _Call:
    """What the builder returns: an operation with results."""

    def __init__(self, results: list[Any]) -> None:
        self._results = results

    def get_result(self, place: int) -> Any:
        return self._results[place]
