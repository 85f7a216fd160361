"""TensorRT: engines of the targets `tensorrt` and `tensorrt-rtx` on an NVIDIA GPU, with cuda-python and no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwen3_plugins.tensorrt.bindings import modules
from qwen3_plugins.tensorrt.bindings.device import Device
from qwen3_plugins.tensorrt.errors import MissingModuleError
from qwen3_runtime.backends.tensorrt.opened_plan import Plan
from qwen3_runtime.backends.tensorrt.packed import PackedPlanBackend
from qwen3_runtime.backends.tensorrt.padded import PaddedPlanBackend
from qwen3_runtime.backends.tensorrt.refusals import refusals_as
from qwen3_runtime.engine_files import PLAN
from qwen3_runtime.errors import UnsupportedEngineError
from qwen3_runtime.installation import tensorrt_command

if TYPE_CHECKING:
    from pathlib import Path

    from qwen3_runtime.backends import Sizes
    from qwen3_runtime.backends.tensorrt.plan_backend import PlanBackend
    from qwen3_runtime.manifest import Manifest


def open_backend(engine_dir: Path, manifest: Manifest, sizes: Sizes) -> PlanBackend:
    """Open the plan of an engine; see `qwen3_runtime.backends.open_backend`."""
    return open_tensorrt(
        engine_dir, manifest, max_sequences=sizes.max_sequences, max_context=sizes.max_context, graphs=True
    )


def open_tensorrt(
    engine_dir: Path, manifest: Manifest, *, max_sequences: int, max_context: int, graphs: bool = True
) -> PlanBackend:
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
    with refusals_as(UnsupportedEngineError):
        trt, cuda = import_bindings(target.backend, plugins=target.has_plugins)
        device = Device(cuda)
        try:
            _check_capability(device, target.compute_capabilities)
            plan = Plan(trt, device, engine_dir / PLAN, built_with=manifest.tools.get(target.backend))
            if target.has_plugin("attention"):
                return PackedPlanBackend(
                    device,
                    plan,
                    manifest.io,
                    max_sequences=max_sequences,
                    max_context=max_context,
                    graphs=graphs,
                )
            return PaddedPlanBackend(device, plan, manifest.io, max_sequences=max_sequences, graphs=graphs)
        except BaseException:
            device.close()
            raise


def import_bindings(backend: str, *, plugins: bool) -> tuple[Any, Any]:
    """Import TensorRT's module of a backend, and CUDA's runtime interface.

    Args:
        backend: `tensorrt` or `tensorrt-rtx`.
        plugins: make our plugins known to TensorRT, which a plan that holds them needs.

    Raises:
        EngineError: a module is missing; says how to install it.
        BindingsError: something else has imported TensorRT in a way that our plugins do not work with.
        PluginError: another plugin has the name of one of ours.
    """
    try:
        trt, cuda = modules.load_tensorrt(backend, plugins=plugins), modules.load_cuda("runtime")
    except MissingModuleError as error:
        raise UnsupportedEngineError(f"the engine is for {backend}, but {error}: {tensorrt_command(backend)}") from None
    if plugins:
        from qwen3_plugins.tensorrt import plugin_v3

        plugin_v3.register_operators(trt)
    return trt, cuda


def _check_capability(device: Device, built_for: tuple[str, ...]) -> None:
    found = device.compute_capability
    if found not in built_for:
        raise UnsupportedEngineError(
            f"the engine was built for compute capability {', '.join(built_for)}, {device.name} has {found}; "
            f"build it with --set target.compute_capabilities=[{found}]"
        )
