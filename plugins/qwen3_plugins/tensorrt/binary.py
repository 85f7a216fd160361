"""Kernels as machine code inside a plan, so that running it needs neither Triton nor the compiler.

The bytes are a zip archive: `index.json`, an object for each kernel, and its cubin in a file of its own.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwen3_plugins.tensorrt.bindings.capabilities import name_of
from qwen3_plugins.tensorrt.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qwen3_plugins.tensorrt.kernels.kernel import Kernel

_INDEX = "index.json"
_KINDS = {"name": str, "capability": int, "entry": str, "threads": int, "shared": int}
# What `zipfile` raises beside its own error: of a damaged stream, and of features that a damaged header asks for.
_DAMAGE = (zipfile.BadZipFile, zlib.error, AttributeError, EOFError, KeyError, RuntimeError, TypeError, ValueError)
_FIRST_SPECIFIC = 90
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip has: equal kernels give equal bytes


@dataclass(frozen=True)
class Binary:
    """One kernel for one compute capability.

    Attributes:
        name: the launch's name of it.
        capability: compute capability times ten.
        entry: the function's name in the cubin.
        threads: of a block.
        shared: bytes of shared memory of a block.
        cubin: the machine code.
    """

    name: str
    capability: int
    entry: str
    threads: int
    shared: int
    cubin: bytes


def compile_binary(name: str, kernel: Kernel, capability: int) -> Binary:
    """Compile a kernel, once in a process.

    Raises:
        KernelCompileError: see `compile_kernel`.
    """
    from qwen3_plugins.tensorrt.compile import compile_kernel

    key = repr(
        (kernel.name, kernel.arguments, sorted(kernel.constants.items()), kernel.warps, kernel.stages, capability)
    )
    if key not in _made:
        made = compile_kernel(kernel, capability)
        _made[key] = Binary(name, capability, made.entry, made.resources.threads, made.resources.shared, made.cubin)
    found = _made[key]
    return Binary(name, capability, found.entry, found.threads, found.shared, found.cubin)


_made: dict[str, Binary] = {}


def serialize_binaries(binaries: Iterable[Binary]) -> bytes:
    """Return kernels as bytes, the same for the same kernels."""
    file, index = io.BytesIO(), []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in binaries:
            place = f"{one.name}.sm{one.capability}.cubin"
            archive.writestr(zipfile.ZipInfo(place, _DATE), one.cubin, zipfile.ZIP_DEFLATED)
            index.append({key: getattr(one, key) for key in _KINDS})
        archive.writestr(zipfile.ZipInfo(_INDEX, _DATE), json.dumps(index), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def deserialize_binaries(content: bytes) -> tuple[Binary, ...]:
    """Return the kernels of `serialize_binaries`.

    Raises:
        PluginError: the bytes are not those that `serialize_binaries` makes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            index = json.loads(archive.read(_INDEX))
            if any({key: type(value) for key, value in one.items()} != _KINDS for one in index):
                raise ValueError(f"the index has other entries than {', '.join(_KINDS)}")
            return tuple(
                Binary(**one, cubin=archive.read(f"{one['name']}.sm{one['capability']}.cubin")) for one in index
            )
    except _DAMAGE as error:
        raise PluginError(f"the plan's kernels cannot be read ({error}): build the engine again") from error


def for_device(binaries: Sequence[Binary], capability: int) -> dict[str, Binary]:
    """Choose each kernel's code for a GPU.

    Up to 8.9, code runs on its own compute capability and on later ones of the same major number. From 9.0 on, Triton
    writes architecture-specific code (`sm_90a`, `sm_120a`), which runs on its own alone (PTX ISA, ".target").

    Raises:
        PluginError: the plan has none for the GPU.
    """
    same = 10 if capability < _FIRST_SPECIFIC else 1
    fitting = [one.capability for one in binaries if one.capability // same == capability // same]
    best = max((one for one in fitting if one <= capability), default=None)
    if best is None:
        there = ", ".join(name_of(one) for one in sorted({one.capability for one in binaries})) or "none"
        raise PluginError(
            f"the plan has kernels for compute capability {there}, found a GPU of {name_of(capability)}: "
            "build it for this GPU"
        )
    return {one.name: one for one in binaries if one.capability == best}
