"""Ctrl-C while TensorRT builds: heard at once, not swallowed by the bindings, and nothing is left behind."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qwen3_compile.tensorrt import PlanProfile, PlanRequest, build_plan, stopping
from qwen3_compile.tensorrt.availability import load_library
from qwen3_compile.tensorrt.stopping import build_interruptibly

LAYERS, WIDTH = 24, 64


def write_deep_graph(path):
    """Write a chain of products, each with a matrix of its own: several seconds of work for TensorRT."""
    half, random = TensorProto.FLOAT16, np.random.default_rng(0)
    nodes, weights = [], []
    for index in range(LAYERS):
        weights.append(numpy_helper.from_array(random.standard_normal((WIDTH, WIDTH)).astype(np.float16), f"w{index}"))
        nodes.append(helper.make_node("MatMul", [f"x{index}", f"w{index}"], [f"p{index}"]))
        nodes.append(helper.make_node("Softmax", [f"p{index}"], [f"x{index + 1}"], axis=-1))
    ends = [helper.make_tensor_value_info(name, half, ["B", WIDTH]) for name in ("x0", f"x{LAYERS}")]
    graph = helper.make_graph(nodes, "deep", [ends[0]], [ends[1]], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10), path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_build_and_leaves_no_plan(tmp_path, monkeypatch, number):
    def leave(number, _):
        raise SystemExit(128 + number)

    class Signaling(stopping._monitor(load_library("tensorrt-rtx"))):
        """Sends the signal in the midst of the build."""

        def step_complete(self, phase, step):
            if not steps:
                os.kill(os.getpid(), number)
            steps.append(phase)
            time.sleep(0.001)
            return super().step_complete(phase, step)

    steps = []
    monkeypatch.setattr(stopping, "_monitor", lambda _: Signaling)
    write_deep_graph(tmp_path / "model.onnx")
    asked = PlanRequest("tensorrt-rtx", ("8.0", "8.9", "12.0"), (PlanProfile("decode", {"B": (1, 4, 4)}),))
    before = signal.signal(number, leave)
    try:
        with pytest.raises(SystemExit) as caught:
            build_plan(tmp_path / "model.onnx", tmp_path / "model.plan", asked)
    finally:
        signal.signal(number, before)
    assert caught.value.code == 128 + number
    assert len(steps) < LAYERS
    assert not (tmp_path / "model.plan").exists()


def test_tensorrt_is_told_to_stop_at_its_next_step_and_waited_for():
    trt, config, steps = load_library("tensorrt-rtx"), SimpleNamespace(), []

    def build():
        while config.progress_monitor.step_complete("a phase", len(steps)):
            steps.append(threading.current_thread())
            if len(steps) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        steps.append("stopped")

    with pytest.raises(KeyboardInterrupt):
        build_interruptibly(trt, config, build)
    assert steps[0] is not threading.main_thread()
    assert steps[-1] == "stopped"


def test_what_a_build_gives_and_what_it_raises_come_through():
    trt, config = load_library("tensorrt-rtx"), SimpleNamespace()
    assert build_interruptibly(trt, config, lambda: 7) == 7
    assert config.progress_monitor.step_complete("a phase", 0)
    with pytest.raises(MemoryError, match="too much"):
        build_interruptibly(trt, config, lambda: (_ for _ in ()).throw(MemoryError("too much")))
