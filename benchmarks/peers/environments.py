"""An environment for each engine, because their dependencies disagree: pinned, made by pip alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peers.contenders import EngineName

BENCHMARKS = Path(__file__).resolve().parents[1]
REPOSITORY = BENCHMARKS.parent


@dataclass(frozen=True)
class Environment:
    """What is installed, and how.

    Attributes:
        folder: its name.
        module: proves that it is complete when it can be imported.
        packages: pip's requirements. PyTorch is held to one version so that no exporter pulls another in.
        options: of pip.
        removed: packages that the others pulled in and that break them.
        variables: of pip.
    """

    folder: str
    module: str
    packages: tuple[str, ...]
    options: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)


def _llama(folder: str, instructions: str) -> Environment:
    """llama.cpp from source, its kernels compiled for certain instructions: 4 to 15 minutes on two cores."""
    return Environment(
        folder,
        "llama_cpp, gguf",
        ("llama-cpp-python==0.3.36", "gguf==0.19.*"),
        # Not from pip's cache either, which does not know what a wheel was compiled for.
        ("--no-cache-dir", "--no-binary", "llama-cpp-python"),
        variables={"CMAKE_ARGS": instructions},
    )


ENVIRONMENTS: dict[EngineName, Environment] = {
    "llama.cpp": _llama("llama", "-DGGML_NATIVE=ON"),
    "llama.cpp for AVX2": _llama(
        "llama-avx2", "-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
    ),
    "onnxruntime-genai": Environment(
        "genai",
        "onnxruntime_genai, torch, transformers, onnx_ir",
        ("onnxruntime-genai==0.18.*", "onnxruntime==1.31.*", "torch==2.13.*", "transformers==5.*", "onnx-ir==1.*"),
    ),
    "openvino-genai": Environment(
        "openvino",
        "openvino_genai, optimum.intel, nncf",
        ("openvino-genai==2026.4.*", "optimum-intel[openvino]==2.2.*", "torch==2.13.*"),
        removed=("torchvision",),  # built for CUDA; beside a PyTorch for CPU it cannot be imported
    ),
}


def python_of(engine: EngineName, folder: Path) -> Path:
    """The interpreter that runs an engine; ours is the one that runs this."""
    if engine == "ours":
        return Path(sys.executable)
    return folder / ENVIRONMENTS[engine].folder / "bin" / "python"


def variables_of(engine: EngineName) -> dict[str, str]:
    """The variables of a worker's process: where it finds this package, and ours where it is not installed.

    ONNX Runtime's telemetry is off: it writes below HOME and calls its maker as soon as it is imported.
    """
    ours = [str(REPOSITORY / part) for part in ("", "graphs", "plugins", "runtime")] if engine == "ours" else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), *ours]), "ORT_DISABLE_TELEMETRY": "1"}


def is_ready(engine: EngineName, folder: Path) -> bool:
    """Whether an engine's environment can import what it is for."""
    if engine == "ours":
        return True
    check = [str(python_of(engine, folder)), "-c", f"import {ENVIRONMENTS[engine].module}"]
    try:
        return subprocess.run(check, env=variables_of(engine), capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def make_environment(engine: EngineName, folder: Path) -> None:
    """Make an engine's environment, unless one is there that works.

    Raises:
        RuntimeError: pip failed; the message names its log.
    """
    if is_ready(engine, folder):
        return
    environment = ENVIRONMENTS[engine]
    home = folder / environment.folder
    log = folder / f"{environment.folder}-pip.log"
    print(f"{engine}: installing {' '.join(environment.packages)} into {home}", flush=True)
    started = time.monotonic()
    pip = [str(home / "bin" / "python"), "-m", "pip"]
    commands = [
        [sys.executable, "-m", "venv", str(home)],
        [*pip, "install", *environment.options, *environment.packages],
        *([*pip, "uninstall", "--yes", package] for package in environment.removed),
    ]
    with log.open("w", encoding="utf-8") as file:
        for command in commands:
            done = subprocess.run(
                command, stdout=file, stderr=file, env={**os.environ, **environment.variables}, check=False
            )
            if done.returncode:
                message = f"{engine}: {' '.join(command)} failed; see {log}"
                raise RuntimeError(message)
    print(f"{engine}: installed in {time.monotonic() - started:.0f} s", flush=True)
    if not is_ready(engine, folder):
        message = f"{engine}: {home} cannot import {environment.module}; see {log}"
        raise RuntimeError(message)
