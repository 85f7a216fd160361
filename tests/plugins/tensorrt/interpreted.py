"""Runs Triton kernels in Triton's interpreter, in a process of its own: Triton decides when it is imported."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import assembly
import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwen3_plugins.tensorrt.kernels.kernel import Kernel

Values = dict[str, torch.Tensor | int]


@dataclass(frozen=True)
class Launch:
    """A kernel's function, the names of its arguments, its constants and its grid."""

    module: str
    function: str
    arguments: tuple[str, ...]
    constants: dict
    grid: tuple[int, int, int]


def launch(kernel: Kernel, **sizes: int) -> Launch:
    """The launch of a kernel whose grid takes these sizes."""
    names = tuple(argument.name for argument in kernel.arguments)
    return Launch(kernel.module, kernel.function, names, dict(kernel.constants), kernel.grid(**sizes))


_NOTHING = 0  # PROT_NONE, which `mmap` does not name


class Interpreter:
    """A process in which every `triton.jit` function is interpreted on the CPU."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_interpret)

    def run(self, launches: list[Launch], values: Values) -> Values:
        """Launch kernels one after the other, each argument being looked up by name; `values` as they are afterwards.

        Raises:
            BrokenProcessPool: a kernel touched memory that is not there.
        """
        return self._pool.submit(_run, launches, values).result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)
    _mend_bfloat16()
    assembly.teach_interpreter()


def _mend_bfloat16() -> None:
    """Triton's interpreter keeps bfloat16 as integers, its bits: it multiplies those, and cuts where it must round."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    product: Callable = InterpreterBuilder.create_dot
    cast: Callable = InterpreterBuilder.cast_impl

    def create_dot(self, a, b, *rest):
        wide = [self.cast_impl(x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b)]
        return product(self, *wide, *rest)

    def cast_impl(self, source, kind):
        if (source.dtype.scalar, kind.scalar) != (tl.float32, tl.bfloat16):
            return cast(self, source, kind)
        rounded = torch.from_numpy(np.ascontiguousarray(source.data)).bfloat16()
        return TensorHandle(rounded.view(torch.uint16).numpy().reshape(source.data.shape), tl.bfloat16)

    InterpreterBuilder.create_dot = create_dot
    InterpreterBuilder.cast_impl = cast_impl


def _run(launches: list[Launch], values: Values) -> Values:
    guarded: dict[int, torch.Tensor] = {}  # by address: what shares memory goes on sharing it
    for value in values.values():
        if isinstance(value, torch.Tensor) and value.data_ptr() not in guarded:
            guarded[value.data_ptr()] = _at_the_edge(value)
    seen = {name: guarded[one.data_ptr()] if isinstance(one, torch.Tensor) else one for name, one in values.items()}
    for each in launches:
        function = getattr(import_module(each.module), each.function)
        function[each.grid](*(seen[name] for name in each.arguments), **each.constants)
    return {name: one.clone() if isinstance(one, torch.Tensor) else one for name, one in seen.items()}


def _at_the_edge(tensor: torch.Tensor) -> torch.Tensor:
    """A copy whose last byte is followed by a page that nobody may touch: who reads on ends the process."""
    page, size = mmap.PAGESIZE, tensor.numel() * tensor.element_size()
    if not size:
        return tensor
    pages = -(-size // page) * page
    memory = mmap.mmap(-1, pages + page)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    failed = ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(begin + pages), page, _NOTHING)
    assert not failed, os.strerror(ctypes.get_errno())
    raw = torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=pages - size)
    copy = raw.view(tensor.dtype).view(tensor.shape)
    return copy.copy_(tensor)
