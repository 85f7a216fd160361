"""NVIDIA's architectures by compute capability: what each has, and which of our parts know it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Capability:
    """One architecture.

    Attributes:
        name: such as `8.9`.
        shared_memory: bytes that one block of threads may have: those of a multiprocessor, by `cuda_occupancy.h` of
            CUDA 13 (which a test compiles and asks), but for 1 KiB that the driver keeps of each block from 8.0 on.
        backends: those that build plans for it, by the support matrices of TensorRT 11 and TensorRT-RTX 1.7.
        kernels: whether our Triton kernels are compiled for it.
    """

    name: str
    shared_memory: int
    backends: tuple[str, ...]
    kernels: bool = True

    @property
    def number(self) -> int:
        """Ten times the name, as NVIDIA's tools write it: 89 for `8.9`."""
        return number_of(self.name)


_BOTH, _FULL = ("tensorrt", "tensorrt-rtx"), ("tensorrt",)
CAPABILITIES = tuple(
    Capability(name, kibibytes << 10, backends, kernels=name not in ("7.5", "8.7", "11.0"))
    for name, kibibytes, backends in (
        ("7.5", 64, _BOTH),
        ("8.0", 163, _BOTH),
        ("8.6", 99, _BOTH),
        ("8.7", 163, _FULL),
        ("8.9", 99, _BOTH),
        ("9.0", 227, _FULL),
        ("10.0", 227, _FULL),
        ("10.3", 227, _FULL),
        ("11.0", 227, _FULL),
        ("12.0", 99, _BOTH),
        ("12.1", 99, _BOTH),
    )
)
"""All that TensorRT 11 or TensorRT-RTX 1.7 build for, the oldest first."""

WITH_KERNELS = tuple(each for each in CAPABILITIES if each.kernels)
"""Those that our plugins have kernels for."""

FIRST_WITH_FORMAT = {"fp8": "8.9", "int4": "8.0", "bf16": "8.0"}
"""The oldest architecture that TensorRT accepts a number format on; other formats run on all of them."""


def built_by(backend: str) -> tuple[str, ...]:
    """Names of the architectures that a backend builds for, the oldest first."""
    return tuple(each.name for each in CAPABILITIES if backend in each.backends)


def number_of(name: str) -> int:
    """89 for `8.9`."""
    major, minor = name.split(".")
    return 10 * int(major) + int(minor)


def name_of(number: int) -> str:
    """`8.9` for 89."""
    return f"{number // 10}.{number % 10}"
