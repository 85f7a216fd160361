"""A GPU by CUDA's runtime interface: what it is, its memory, copies, one stream, graphs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_plugins.tensorrt.errors import BindingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
_GIB = 1 << 30
_PAGE_BYTES = 4096


@dataclass(frozen=True, eq=False)
class Graph:
    """Work that was recorded once, ready to be launched again with the same addresses."""

    executable: Any


class Device:
    """The first GPU that the process sees, and one stream on it; all work is queued there.

    What it hands out belongs to it: `close` frees memory, graphs and the stream.

    Args:
        cuda: the module `cuda.bindings.runtime`.

    Attributes:
        name: the GPU's name.
        compute_capability: as `major.minor`.
        stream: the stream's handle, as TensorRT wants it.

    Raises:
        BindingsError: there is no GPU, or its driver is older than these bindings.
    """

    def __init__(self, cuda: Any) -> None:  # noqa: ANN401 - the bindings have no types
        self._cuda = cuda
        self._device_memory: list[int] = []
        self._pinned: dict[int, NDArray[np.uint8]] = {}
        self._graphs: list[Graph] = []
        self._stream: Any = None
        error, count = cuda.cudaGetDeviceCount()
        if int(error) or not count:
            found = self._text(error) if int(error) else "it sees no device"
            raise BindingsError(f"no NVIDIA GPU that CUDA can use: {found}; TensorRT engines run on a GPU only")
        properties = self._done("describe the GPU", cuda.cudaGetDeviceProperties(0))
        self.name = bytes(properties.name).split(b"\0")[0].decode(errors="replace")
        self.compute_capability = f"{properties.major}.{properties.minor}"
        self._stream = self._done("create a stream", cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))
        self.stream = int(self._stream)

    def allocate(self, size: int, purpose: str) -> int:
        """Reserve device memory, aligned for TensorRT (CUDA aligns to 256 bytes at least).

        Args:
            size: bytes.
            purpose: names the memory in the error.

        Returns:
            Its address.

        Raises:
            BindingsError: the GPU has not that much left.
        """
        error, address = self._cuda.cudaMalloc(max(size, 1))
        if int(error) == _OUT_OF_MEMORY:
            free, total = self._done("count free memory", self._cuda.cudaMemGetInfo())
            raise BindingsError(
                f"not enough memory for {purpose}: {size / _GIB:.2f} GiB needed, {free / _GIB:.2f} of "
                f"{total / _GIB:.2f} GiB free on {self.name}; open the engine with a smaller max_sequences"
            )
        address = int(self._done(f"reserve {purpose}", (error, address)))
        self._device_memory.append(address)
        return address

    def allocate_host(self, size: int) -> NDArray[np.uint8]:
        """Reserve pinned host memory, which copies to and from the device need to be asynchronous; uint8 [size].

        It stays readable after `close`, as long as somebody holds it.
        """
        room = -(-size // _PAGE_BYTES) * _PAGE_BYTES
        whole = np.empty(room + _PAGE_BYTES, np.uint8)
        offset = -whole.ctypes.data % _PAGE_BYTES
        array = whole[offset : offset + room]  # whole pages, so that nothing else is pinned with it
        address = array.ctypes.data
        self._done("pin host memory", self._cuda.cudaHostRegister(address, room, self._cuda.cudaHostRegisterDefault))
        self._pinned[address] = array
        return array[:size]

    def clear(self, address: int, size: int) -> None:
        """Queue zeroing `size` bytes of device memory."""
        self._done("clear memory", self._cuda.cudaMemsetAsync(address, 0, size, self._stream))

    def copy_in(self, address: int, host: NDArray[Any]) -> None:
        """Queue a copy of contiguous pinned memory to the device; it must not change before `wait`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        copied = self._cuda.cudaMemcpyAsync(address, host.ctypes.data, host.nbytes, kind, self._stream)
        self._done("copy inputs", copied)

    def copy_out(self, host: NDArray[Any], address: int) -> None:
        """Queue a copy from the device to contiguous pinned memory; it is there after `wait`."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        copied = self._cuda.cudaMemcpyAsync(host.ctypes.data, address, host.nbytes, kind, self._stream)
        self._done("copy results", copied)

    def wait(self) -> None:
        """Wait until everything queued is done.

        Raises:
            BindingsError: some of it failed; the GPU's state is then unknown.
        """
        self._done("finish a step", self._cuda.cudaStreamSynchronize(self._stream))

    def record(self, work: Callable[[], None]) -> Graph:
        """Record what `work` queues, without running it."""
        cuda = self._cuda
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._done("begin a CUDA graph", cuda.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        except BaseException:
            error, half = cuda.cudaStreamEndCapture(self._stream)
            if not int(error):
                cuda.cudaGraphDestroy(half)
            raise
        recorded = self._done("record a CUDA graph", cuda.cudaStreamEndCapture(self._stream))
        try:
            graph = Graph(self._done("instantiate a CUDA graph", cuda.cudaGraphInstantiate(recorded, 0)))
        finally:
            cuda.cudaGraphDestroy(recorded)
        self._graphs.append(graph)
        return graph

    def replay(self, graph: Graph) -> None:
        """Queue what was recorded."""
        self._done("launch a CUDA graph", self._cuda.cudaGraphLaunch(graph.executable, self._stream))

    def forget(self, graph: Graph) -> None:
        """Free a graph."""
        self._graphs.remove(graph)
        self._done("free a CUDA graph", self._cuda.cudaGraphExecDestroy(graph.executable))

    def close(self) -> None:
        """Free everything, also after a failure. May be called twice."""
        cuda = self._cuda
        if self._stream is not None:
            cuda.cudaStreamSynchronize(self._stream)
        while self._graphs:
            cuda.cudaGraphExecDestroy(self._graphs.pop().executable)
        while self._device_memory:
            cuda.cudaFree(self._device_memory.pop())
        while self._pinned:
            address, _ = self._pinned.popitem()
            cuda.cudaHostUnregister(address)
        if self._stream is not None:
            cuda.cudaStreamDestroy(self._stream)
            self._stream = None

    def _done(self, doing: str, result: tuple[Any, ...]) -> Any:  # noqa: ANN401 - whatever the call gives
        """What a call gave beside its status: nothing, a value, or several."""
        error, *values = result
        if int(error):
            raise BindingsError(f"CUDA could not {doing}: {self._text(error)}")
        return values[0] if len(values) == 1 else values

    def _text(self, error: Any) -> str:  # noqa: ANN401 - an enumeration of the bindings
        text = None
        with contextlib.suppress(Exception):
            text = self._cuda.cudaGetErrorString(error)[1]
        return f"{text.decode() if text else 'unknown error'} ({int(error)})"
