"""What keeps a TensorRT engine from running is one line that says what to do, and nothing stays allocated."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from built_engine import CONTEXT, GREEDY, rewrite, with_changed_manifest
from cuda.bindings import runtime as cudart
from cuda_on_host import HostCuda
from tensorrt_on_host import MAGIC, HostContext, HostTensorRt, import_network, real

from qwen3_compile.spec.load import load_spec
from qwen3_compile.tensorrt import profiles_of
from qwen3_plugins.tensorrt.bindings.device import Device
from qwen3_runtime import Engine, EngineError
from qwen3_runtime.backends import tensorrt
from qwen3_runtime.backends.tensorrt.opened_plan import Plan
from qwen3_runtime.step import Step

if TYPE_CHECKING:
    from pathlib import Path

    from tensorrt_on_host import Network


@pytest.fixture(scope="module")
def engine(tensorrt_engine: tuple[Path, object]) -> Path:
    return tensorrt_engine[0]


@pytest.fixture(scope="module")
def network(engine: Path) -> Network:
    profiles = profiles_of(load_spec(engine.parent / "spec.yaml"))
    return import_network(engine / "model.onnx", [profile.sizes for profile in profiles])


@pytest.fixture
def trt(network: Network, monkeypatch: pytest.MonkeyPatch) -> HostTensorRt:
    found = HostTensorRt(HostCuda(), network)
    monkeypatch.setattr(tensorrt, "import_bindings", lambda _, **__: (found, found.cuda))
    return found


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(EngineError) as caught:
        Engine.open(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_gpu_the_real_bindings_say_so(engine: Path) -> None:
    """In a process of its own, which no GPU is shown to."""
    script = "import sys; from qwen3_runtime import Engine; Engine.open(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", script, engine],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=False,
        timeout=300,
    )
    assert "UnsupportedEngineError: no NVIDIA GPU that CUDA can use: " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("tensorrt_rtx", "but the Python module tensorrt_rtx is not installed: pip install .*\\[tensorrt\\]"),
        (
            "cuda.bindings.runtime",
            "but the Python module cuda.bindings.runtime is not installed: pip install .*\\[tensorrt\\]",
        ),
    ],
)
def test_a_missing_module_is_named(engine: Path, monkeypatch: pytest.MonkeyPatch, missing: str, message: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(EngineError, match=message):
        Engine.open(engine)


def test_the_real_modules_are_those_of_the_target() -> None:
    assert tensorrt.import_bindings("tensorrt-rtx", plugins=False) == (real, cudart)


def test_a_gpu_that_the_engine_was_not_built_for_is_named_with_what_to_do(engine: Path, trt: HostTensorRt) -> None:
    trt.cuda.capability = (12, 1)
    assert refusal(engine).endswith(
        "compute capability 8.0, 8.6, 8.9, 12.0, Host GPU has 12.1; "
        "build it with --set target.compute_capabilities=[12.1]"
    )
    assert trt.cuda.clean


def test_a_plan_of_another_version_is_told_from_one_that_is_damaged(
    engine: Path, trt: HostTensorRt, tmp_path: Path
) -> None:
    other = with_changed_manifest(engine, tmp_path / "engine", "tools", {"tensorrt-rtx": "1.6.0"})
    rewrite(other, "model.plan", b"not" + MAGIC)
    assert f"built with TensorRT 1.6.0, this is {real.__version__}" in refusal(other)
    damaged = with_changed_manifest(engine, tmp_path / "damaged", "tools", {})
    rewrite(damaged, "model.plan", b"not" + MAGIC)
    assert "refuses the plan (Serialization assertion failed.)" in refusal(damaged)
    assert trt.cuda.clean


def test_the_real_runtime_gives_the_reason_that_it_logs(tmp_path: Path) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"no plan at all" * 100)
    cuda = HostCuda()
    device = Device(cuda)
    for _ in range(2):  # TensorRT keeps the first logger that it is given
        with pytest.raises(EngineError, match=r"model\.plan: TensorRT refuses the plan \(.*magicTag.*") as caught:
            Plan(real, device, plan, built_with=real.__version__)
        assert "\n" not in str(caught.value)
    device.close()
    assert cuda.clean


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 3}, r"the manifest has 'kv\.2\.key', the plan has not"),
        ({"layers": 1}, r"the plan has 'kv\.1\.key', the manifest has not"),
        ({"kv_heads": 1}, r"'kv\.0\.key' has shape \(-1, 2, 64, 32\), the manifest expects 1 on axis 1"),
        ({"head_dim": 64}, r"the manifest expects 64 on axis 3"),
        ({"max_context": 32}, r"the manifest expects 32 on axis 2"),
        ({"vocab_size": 121}, r"'logits' has shape \(-1, 120\), the manifest expects 121 on axis 1"),
        ({"cache_dtype": "bfloat16"}, r"element type of 'kv\.0\.key': the manifest expects BF16, the plan has HALF"),
        ({"cache_dtype": "int8"}, r"the engine's cache is INT8; this backend has FLOAT, FLOAT16, BFLOAT16"),
        ({"output": "hidden", "task": "embedding"}, r"the manifest has 'hidden', the plan has not"),
    ],
)
def test_a_plan_that_differs_from_the_manifest_is_refused(
    engine: Path, trt: HostTensorRt, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = with_changed_manifest(engine, tmp_path / "engine", "io", change)
    with pytest.raises(EngineError, match=message):
        Engine.open(path)
    assert trt.cuda.clean


def test_a_cache_that_is_not_written_in_place_is_refused(
    engine: Path, trt: HostTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt.network, "aliases", {})
    assert "'kv_out.0.key' is not written in place (it shares memory with no input)" in refusal(engine)
    assert trt.cuda.clean


def test_a_cache_that_does_not_fit_says_how_much_there_is(engine: Path, trt: HostTensorRt) -> None:
    trt.cuda.total = 1 << 17
    message = refusal(engine, max_sequences=4)
    assert message.startswith("not enough memory for the cache of 4 sequences: 0.00 GiB needed, ")
    assert message.endswith("free on Host GPU; open the engine with a smaller max_sequences")
    assert trt.cuda.clean


def test_sequences_whose_caches_cannot_be_aligned_are_refused(
    engine: Path, trt: HostTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qwen3_runtime.backends.tensorrt.padded.ALIGNMENT", 1 << 20)
    assert "TensorRT needs multiples of 1048576" in refusal(engine, max_sequences=2)
    assert trt.cuda.clean


def test_a_gpu_that_fails_in_a_step_is_reported_and_everything_is_freed(engine: Path, trt: HostTensorRt) -> None:
    with Engine.open(engine) as opened:
        trt.cuda.fail["cudaStreamSynchronize"] = cudart.cudaError_t.cudaErrorIllegalAddress
        with pytest.raises(EngineError, match=r"CUDA could not finish a step: an illegal memory access .* \(700\)"):
            opened.complete([1, 2, 3], sampling=GREEDY)
    assert trt.cuda.clean


def test_what_tensorrt_refuses_in_a_step_is_reported(
    engine: Path, trt: HostTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine.open(engine) as opened:
        for method, message in (
            ("set_input_shape", "refuses what it is given for 'input_ids'"),
            ("set_tensor_address", "refuses what it is given for "),
            ("execute_async_v3", "TensorRT failed in a step: it gives no reason"),
            ("set_optimization_profile_async", "TensorRT cannot run the plan"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(HostContext, method, lambda *_: False)
                with pytest.raises(EngineError, match=message):
                    opened.complete([1, 2, 3], sampling=GREEDY)
        assert opened.complete([1, 2, 3], sampling=GREEDY, max_tokens=2).finish_reason == "length"
    assert trt.cuda.clean


def test_a_recording_that_fails_leaves_no_half_of_a_graph(
    engine: Path, trt: HostTensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt.rtx = False
    with Engine.open(engine) as opened:
        run = HostContext.execute_async_v3
        with monkeypatch.context() as patch:
            patch.setattr(
                HostContext,
                "execute_async_v3",
                lambda self, stream: self.cuda.capturing is None and run(self, stream),
            )
            with pytest.raises(EngineError, match="TensorRT failed in a step"):
                opened.complete([1, 2, 3], sampling=GREEDY)
        assert trt.cuda.capturing is None
        assert opened.complete([1, 2, 3], sampling=GREEDY, max_tokens=4).finish_reason == "length"
    assert trt.cuda.clean


def test_a_step_larger_than_the_plan_is_refused(engine: Path, trt: HostTensorRt) -> None:
    with Engine.open(engine) as opened:
        step = Step(
            np.zeros(CONTEXT, np.int64),
            np.array([0, CONTEXT], np.int32),
            np.zeros(1, np.int32),
            np.zeros((1, 1), np.int32),
            np.zeros(1, np.int32),
        )
        with pytest.raises(EngineError, match=r"a step has 64 tokens in the longest sequence, .* for 1 to 24"):
            opened.backend.run(step)
    assert trt.cuda.clean


def test_other_engines_have_no_graph_to_run_instead(engine: Path, tmp_path: Path) -> None:
    other = with_changed_manifest(
        engine, tmp_path / "engine", "target", {"backend": "ort", "provider": "cuda", "plugins": "none"}
    )
    assert refusal(other, on_cpu=True) == (
        "on_cpu: only TensorRT engines have a graph to run instead, this engine is for ort"
    )


def own_process(script: str) -> subprocess.CompletedProcess[str]:
    preamble = "from qwen3_runtime.backends.tensorrt import import_bindings; "
    return subprocess.run(
        [sys.executable, "-c", preamble + script], capture_output=True, text=True, check=False, timeout=300
    )


def test_a_tensorrt_that_was_imported_plainly_does_for_plans_without_plugins() -> None:
    done = own_process(
        "import tensorrt_rtx; print(import_bindings('tensorrt-rtx', plugins=False)[0] is tensorrt_rtx);"
        "import_bindings('tensorrt-rtx', plugins=True)"
    )
    assert done.stdout.strip() == "True"
    assert "BindingsError: tensorrt_rtx was imported by something else before" in done.stderr


def test_the_plugins_of_a_plan_are_known_before_it_is_opened() -> None:
    done = own_process(
        "trt, _ = import_bindings('tensorrt-rtx', plugins=True); import_bindings('tensorrt-rtx', plugins=True);"
        "print(*(made.name for made in trt.get_plugin_registry().all_creators))"
    )
    assert {"Qwen3Attention", "Qwen3MoE"} <= set(done.stdout.split())
