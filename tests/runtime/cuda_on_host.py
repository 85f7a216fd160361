"""CUDA's runtime API over host memory: what `cuda.bindings.runtime` does, for the calls that the runtime makes.

Work queued on a stream runs when the stream is waited for, so that what was forgotten to wait for shows. Memory starts
as NaN. On a machine without a driver every call also goes to the real binding, which checks the number and the types
of its arguments before it finds no driver.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from cuda.bindings import runtime as real

if TYPE_CHECKING:
    from collections.abc import Callable

OK = real.cudaError_t.cudaSuccess
ILLEGAL = real.cudaError_t.cudaErrorIllegalAddress
NO_DRIVER = real.cudaGetDeviceCount()[0] == real.cudaError_t.cudaErrorInsufficientDriver


@dataclass
class HostCuda:
    """A module-like object with one GPU of 1 GiB."""

    capability: tuple[int, int] = (8, 9)
    devices: int = 1
    total: int = 1 << 30
    allocated: dict[int, np.ndarray] = field(default_factory=dict)
    pinned: dict[int, np.ndarray] = field(default_factory=dict)
    queue: list[Callable[[], None]] = field(default_factory=list)
    capturing: list[Callable[[], None]] | None = None
    graphs: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    executables: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    streams: int = 0
    launches: int = 0
    fail: dict[str, real.cudaError_t] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        imitated = re.sub(r"([A-Z])", r"_\1", name.removeprefix("cuda")).lower()
        if not hasattr(type(self), imitated):
            return getattr(real, name)  # an enumeration
        imitation = getattr(type(self), imitated)

        def call(*arguments: object) -> tuple[Any, ...]:
            answer: tuple[Any, ...] | None = None
            if NO_DRIVER and name not in ("cudaGetDeviceCount", "cudaGetErrorString"):
                answer = getattr(real, name)(*arguments)  # a TypeError if the binding takes other arguments
                assert answer[0] == real.cudaError_t.cudaErrorInsufficientDriver
            if name in self.fail:
                return (self.fail[name], *([None] * (len(answer) - 1 if answer else 0)))
            found: tuple[Any, ...] = imitation(self, *arguments)
            assert answer is None or len(found) == len(answer)
            return found

        return call

    def push(self, work: Callable[[], None]) -> None:
        """Queue work, or record it."""
        (self.queue if self.capturing is None else self.capturing).append(work)

    def at(self, address: int, size: int) -> np.ndarray:
        """The bytes of an address, which must all lie in one allocation."""
        for base, array in (*self.allocated.items(), *self.pinned.items()):
            if base <= address and address + size <= base + len(array):
                return array[address - base : address - base + size]
        raise AssertionError(f"{size} bytes at {address:#x} are not all in one allocation")

    @property
    def clean(self) -> bool:
        """Whether everything that was handed out has been given back."""
        return not (self.allocated or self.pinned or self.executables or self.graphs or self.streams)

    # The calls.

    def _get_device_count(self) -> tuple[Any, ...]:
        return (OK, self.devices) if self.devices else (real.cudaError_t.cudaErrorNoDevice, None)

    def _get_error_string(self, error: Any) -> tuple[Any, ...]:
        return tuple(real.cudaGetErrorString(error))

    def _get_device_properties(self, device: int) -> tuple[Any, ...]:
        assert device == 0
        properties = real.cudaDeviceProp()
        properties.name = b"Host GPU".ljust(256, b"\0")
        properties.major, properties.minor = self.capability
        return OK, properties

    def _mem_get_info(self) -> tuple[Any, ...]:
        return OK, self.total - sum(map(len, self.allocated.values())), self.total

    def _malloc(self, size: int) -> tuple[Any, ...]:
        if size > self._mem_get_info()[1]:
            return real.cudaError_t.cudaErrorMemoryAllocation, None
        return OK, self._reserve(self.allocated, size)

    def _host_register(self, address: int, size: int, _: int) -> tuple[Any, ...]:
        assert address % 4096 == size % 4096 == 0, "pages that something else may lie in too"
        self.pinned[address] = np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(address))
        self.pinned[address].fill(0xFF)
        return (OK,)

    @staticmethod
    def _reserve(table: dict[int, np.ndarray], size: int) -> int:
        whole = np.full(size + 256, 0xFF, np.uint8)  # NaN in every float type
        offset = -whole.ctypes.data % 256
        array = whole[offset : offset + size]
        table[array.ctypes.data] = array
        return int(array.ctypes.data)

    def _free(self, address: int) -> tuple[Any, ...]:
        del self.allocated[address]
        return (OK,)

    def _host_unregister(self, address: int) -> tuple[Any, ...]:
        del self.pinned[address]
        return (OK,)

    def _memset_async(self, address: int, value: int, size: int, *_: object) -> tuple[Any, ...]:
        target = self.at(address, size)
        self.push(lambda: target.fill(value))
        return (OK,)

    def _memcpy_async(self, to: int, source: int, size: int, kind: Any, *_: object) -> tuple[Any, ...]:
        tables = {
            real.cudaMemcpyKind.cudaMemcpyHostToDevice: (self.allocated, self.pinned),
            real.cudaMemcpyKind.cudaMemcpyDeviceToHost: (self.pinned, self.allocated),
        }[kind]
        for address, table in zip((to, source), tables, strict=True):
            assert any(base <= address < base + len(array) for base, array in table.items()), "wrong side"
            self.at(address, size)
        self.push(lambda: ctypes.memmove(to, source, size) and None)
        return (OK,)

    def _stream_create_with_flags(self, flags: int) -> tuple[Any, ...]:
        assert flags == real.cudaStreamNonBlocking
        self.streams += 1
        return OK, real.cudaStream_t(0x5000)

    def _stream_destroy(self, *_: object) -> tuple[Any, ...]:
        self.streams -= 1
        return (OK,)

    def _stream_synchronize(self, *_: object) -> tuple[Any, ...]:
        assert self.capturing is None, "waiting is illegal while work is recorded"
        while self.queue:
            self.queue.pop(0)()
        return (OK,)

    def _stream_begin_capture(self, *_: object) -> tuple[Any, ...]:
        assert self.capturing is None
        self.capturing = []
        return (OK,)

    def _stream_end_capture(self, *_: object) -> tuple[Any, ...]:
        assert self.capturing is not None
        number = 0x6000 + len(self.graphs) + len(self.executables)
        self.graphs[number], self.capturing = self.capturing, None
        return OK, real.cudaGraph_t(number)

    def _graph_instantiate(self, graph: Any, *_: object) -> tuple[Any, ...]:
        self.launches += 1
        number = 0x7000 + self.launches
        self.executables[number] = self.graphs[int(graph)]
        return OK, real.cudaGraphExec_t(number)

    def _graph_destroy(self, graph: Any) -> tuple[Any, ...]:
        del self.graphs[int(graph)]
        return (OK,)

    def _graph_launch(self, executable: Any, *_: object) -> tuple[Any, ...]:
        self.launches += 1
        for work in self.executables[int(executable)]:
            self.push(work)
        return (OK,)

    def _graph_exec_destroy(self, executable: Any) -> tuple[Any, ...]:
        del self.executables[int(executable)]
        return (OK,)
