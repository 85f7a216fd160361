"""An engine for CUDA never runs on the CPU without a word. There is no GPU here: what is tested is that it refuses.

Reference: a stand-in for the Python module, with real sessions on the CPU
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from qwen3_runtime import EngineError
from qwen3_runtime.backends.ort import session
from qwen3_runtime.backends.ort.session import open_session, require_provider

if TYPE_CHECKING:
    from pathlib import Path

CUDA = "CUDAExecutionProvider"


def small_graph(path: Path) -> Path:
    """A node that the real sessions of an engine leave on the CPU, and one that they must not."""
    nodes = [
        helper.make_node("Shape", ["x"], ["length"], name="step.length"),
        helper.make_node("Add", ["x", "x"], ["twice"], name="layers.0.add"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value("x", TensorProto.FLOAT16, ["n"])],
        [value("length", TensorProto.INT64, [1]), value("twice", TensorProto.FLOAT16, ["n"])],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 23)])
    path.write_bytes(model.SerializeToString())
    return path


def gpu_wheel(memory: object) -> SimpleNamespace:
    """The installed onnxruntime, but listing CUDA as the GPU distribution does whether or not it can be used.

    Its sessions are the installed one's: asked for CUDA they open on the CPU, as the GPU distribution's do.
    """
    fake = SimpleNamespace(**vars(onnxruntime))
    fake.get_available_providers = lambda: [CUDA, "CPUExecutionProvider"]
    fake.OrtValue = SimpleNamespace(ortvalue_from_numpy=memory)
    return fake


def no_memory(*_: object) -> None:
    raise RuntimeError("CUDA Provider not available, can't get interface for it")


def test_the_cpu_distribution_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"the engine needs {CUDA}, this onnxruntime has .*CPUExecutionProvider"):
        open_session(small_graph(tmp_path / "model.onnx"), CUDA, 1)


def test_a_listed_provider_without_its_device_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", gpu_wheel(no_memory))
    with pytest.raises(EngineError, match=f"{CUDA}, which cannot be used here: no cuda device; run"):
        open_session(small_graph(tmp_path / "model.onnx"), CUDA, 1)


def test_what_cuda_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def old_driver(*_: object) -> None:
        raise RuntimeError(
            "a.cc:154 T CudaCall(E) CUDA failure 35: CUDA driver version is insufficient ; GPU=-1 ; b.cc"
        )

    monkeypatch.setitem(sys.modules, "onnxruntime", gpu_wheel(old_driver))
    with pytest.raises(EngineError, match="used here: CUDA failure 35: CUDA driver version is insufficient; run"):
        require_provider(CUDA)


def test_a_missing_library_is_named_and_nothing_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = gpu_wheel(no_memory)
    fake.preload_dlls = lambda: print("Failed to load libcublas.so.13: no such file\nPlease install CUDA.")
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    with pytest.raises(EngineError, match=r"cannot be used here: Failed to load libcublas\.so\.13: no such file; run"):
        require_provider(CUDA)
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_that_fell_back_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", gpu_wheel(lambda *_: np.zeros(1)))
    with pytest.raises(EngineError, match=f"needs {CUDA}, but the session runs on CPUExecutionProvider"):
        open_session(small_graph(tmp_path / "model.onnx"), CUDA, 1)


def test_a_layer_left_to_the_cpu_is_refused_and_lengths_are_not(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    path = str(small_graph(tmp_path / "model.onnx"))
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    with pytest.raises(EngineError, match=rf"no kernel of {CUDA} for 1 nodes, such as layers.0.add \(Add\)"):
        session._check_assignment(opened, CUDA)
    session._check_assignment(opened, "CPUExecutionProvider")


def test_the_cpu_needs_no_device() -> None:
    assert require_provider("CPUExecutionProvider") is onnxruntime
