"""TensorRT: engines of the targets `tensorrt` and `tensorrt-rtx` on an NVIDIA GPU, with cuda-python and no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwen3_runtime.backends.tensorrt.device import Device
from qwen3_runtime.backends.tensorrt.packed import PackedBackend
from qwen3_runtime.backends.tensorrt.padded import PaddedBackend
from qwen3_runtime.backends.tensorrt.plan import Plan, import_bindings
from qwen3_runtime.directory import PLAN
from qwen3_runtime.errors import UnsupportedEngineError

if TYPE_CHECKING:
    from pathlib import Path

    from qwen3_runtime.manifest import Manifest
    from qwen3_runtime.step import Backend


def open_tensorrt(
    engine_dir: Path, manifest: Manifest, *, max_sequences: int, max_context: int, graphs: bool = True
) -> Backend:
    """Open the plan of an engine whose directory was checked, on the first GPU that the process sees.

    Args:
        engine_dir: the engine directory.
        manifest: its manifest.
        max_sequences: sequences that the cache holds.
        max_context: tokens that a sequence may hold; engines with TensorRT's own attention reserve what they were
            built for.
        graphs: whether decode steps are recorded as CUDA graphs; without is slower, and easier to debug.

    Raises:
        EngineError: a module or a GPU is missing, the engine is for other GPUs or another version of TensorRT, the
            plan differs from the manifest, or there is not enough memory.
    """
    target = manifest.target
    trt, cuda = import_bindings(target.backend, plugins="plugin" in (target.attention, target.moe))
    device = Device(cuda)
    try:
        _check_capability(device, target.compute_capabilities)
        plan = Plan(trt, device, engine_dir / PLAN, built_with=manifest.tools.get(target.backend))
        if target.attention == "plugin":
            return PackedBackend(
                device,
                plan,
                manifest.io,
                max_sequences=max_sequences,
                max_context=max_context,
                graphs=graphs,
            )
        return PaddedBackend(device, plan, manifest.io, max_sequences=max_sequences, graphs=graphs)
    except BaseException:
        device.close()
        raise


def _check_capability(device: Device, built_for: tuple[str, ...]) -> None:
    found = device.compute_capability
    if found not in built_for:
        raise UnsupportedEngineError(
            f"the engine was built for compute capability {', '.join(built_for)}, {device.name} has {found}; "
            f"build it with --set target.compute_capabilities=[{found}]"
        )
