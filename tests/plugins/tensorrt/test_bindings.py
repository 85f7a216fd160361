"""NVIDIA's Python modules: light until they are asked for, and each architecture written down once."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from qwen3_plugins.tensorrt.bindings import capabilities, modules
from qwen3_plugins.tensorrt.errors import MissingModuleError
from qwen3_plugins.tensorrt.kernels.attention import AttentionShape, attention_kernels

if TYPE_CHECKING:
    from pathlib import Path


def test_importing_the_bindings_imports_none_of_nvidias_modules() -> None:
    report = (
        "import sys; from qwen3_plugins.tensorrt.bindings import capabilities, device, logger, modules;"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    assert not {"cuda", "tensorrt", "tensorrt_rtx", "triton", "torch", "onnx"} & set(done.stdout.split())


def test_kernels_are_compiled_for_the_architectures_that_say_so() -> None:
    shape = AttentionShape(2, 1, 64, 16, 1e-6, "fp16")
    for each in capabilities.CAPABILITIES:
        if each.kernels:
            assert attention_kernels(shape, each.number)
        else:
            with pytest.raises(ValueError, match="no tile sizes"):
                attention_kernels(shape, each.number)


def test_architectures_have_one_name_and_one_number() -> None:
    numbers = [each.number for each in capabilities.CAPABILITIES]
    assert numbers == sorted(set(numbers))
    assert [capabilities.name_of(number) for number in numbers] == [each.name for each in capabilities.CAPABILITIES]


def test_tensorrt_rtx_builds_for_what_its_module_names() -> None:
    trt = modules.load_tensorrt("tensorrt-rtx")
    known = {name.removeprefix("SM") for name in trt.ComputeCapability.__members__ if name.startswith("SM")}
    assert {str(capabilities.number_of(name)) for name in capabilities.built_by("tensorrt-rtx")} <= known


def test_a_module_that_lacks_another_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(MissingModuleError, match="module tensorrt needs no_such_module, which is not installed"):
        modules.load_tensorrt("tensorrt")


@pytest.mark.parametrize("part", ["driver", "runtime"])
def test_cuda_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setitem(sys.modules, f"cuda.bindings.{part}", None)
    with pytest.raises(MissingModuleError, match=rf"the Python module cuda\.bindings\.{part} is not installed"):
        modules.load_cuda(part)  # type: ignore[arg-type]
