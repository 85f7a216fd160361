"""Plans of a small graph by the real builder of TensorRT for RTX, which needs no GPU, and its refusals in one line."""

import resource
import signal
import sys
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qwen3_compile.errors import CompileError, UnsupportedError
from qwen3_compile.tensorrt import PlanProfile, PlanRequest, build_plan
from qwen3_compile.tensorrt.availability import find_capabilities, load_library
from qwen3_compile.tensorrt.messages import clean, explain, record_messages

WIDTH = 64
PREFILL = PlanProfile("prefill", {"B": (1, 1, 4), "S": (1, 16, 32)})
DECODE = PlanProfile("decode", {"B": (1, 4, 4), "S": (1, 1, 1)})


def write_graph(folder, *, weights="fp16", nodes=(), dimensions=("B", "S")):
    """Write y = x @ w.T with its weights beside it; `nodes` are put behind the product."""
    half = TensorProto.FLOAT16
    values = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float16)
    made = [helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]), helper.make_node("MatMul", ["x", "wt"], ["p"])]
    if weights == "fp16":
        stored = [numpy_helper.from_array(values, "w")]
    else:
        codes = (values / 4).astype(ml_dtypes.float8_e4m3fn)
        stored = [
            helper.make_tensor("codes", TensorProto.FLOAT8E4M3FN, codes.shape, codes.tobytes(), raw=True),
            numpy_helper.from_array(np.full(WIDTH, 4, np.float16), "scales"),
        ]
        made.insert(0, helper.make_node("DequantizeLinear", ["codes", "scales"], ["w"], axis=0))
    last = helper.make_node("Identity", [nodes[-1].output[0] if nodes else "p"], ["y"])
    graph = helper.make_graph(
        [*made, *nodes, last],
        "small",
        [helper.make_tensor_value_info("x", half, [*dimensions, WIDTH])],
        [helper.make_tensor_value_info("y", half, [*dimensions, WIDTH])],
        stored,
    )
    opsets = [helper.make_opsetid("", 24), helper.make_opsetid("other", 1)]
    path = folder / "model.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=10),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    return path


def request(*capabilities, profiles=(PREFILL, DECODE), backend="tensorrt-rtx"):
    return PlanRequest(backend, capabilities or ("8.9",), profiles)


@pytest.mark.parametrize("capability", ["7.5", "8.0", "8.6", "8.9", "12.0", "12.1"])
def test_a_plan_is_built_for_each_architecture_without_a_gpu(tmp_path, capability):
    facts = build_plan(write_graph(tmp_path), tmp_path / "model.plan", request(capability))
    assert facts.size == (tmp_path / "model.plan").stat().st_size > 2 * WIDTH * WIDTH
    assert facts.layers["MATRIX_MULTIPLY"] == 1
    assert facts.warnings == ()
    assert facts.seconds > 0


def test_two_builds_give_the_same_plan_in_whichever_order_architectures_are_named(tmp_path):
    model, sizes = write_graph(tmp_path), set()
    for number, capabilities in enumerate([("8.0", "12.0", "8.9"), ("8.0", "12.0", "8.9"), ("12.0", "8.9", "8.0")]):
        facts = build_plan(model, tmp_path / f"{number}.plan", request(*capabilities))
        sizes.add((facts.size, tuple(facts.layers.items())))
    assert len(sizes) == 1


def test_architectures_that_share_a_plan_cost_no_second_copy_of_the_weights(tmp_path):
    model = write_graph(tmp_path)
    one = build_plan(model, tmp_path / "one.plan", request("8.9")).size
    four = build_plan(model, tmp_path / "four.plan", request("8.0", "8.6", "8.9", "12.0")).size
    assert four - one < WIDTH * WIDTH


UNKNOWN = helper.make_node("Mystery", ["p"], ["q"], domain="other", name="layers.0.mystery")
WRONG = helper.make_node("Reshape", ["p", "p"], ["q"], name="layers.0.wrong")


@pytest.mark.parametrize(
    ("changes", "asked", "words"),
    [
        ({"weights": "fp8"}, request("8.0", "8.9"), "cannot build: compute capability 8.0 lacks fp8: remove it"),
        ({"nodes": (UNKNOWN,)}, request(), "node layers.0.mystery (Mystery): it has neither a layer nor a plugin"),
        ({"nodes": (WRONG,)}, request(), "cannot import model.onnx, node layers.0.wrong (Reshape): "),
        ({}, request("9.9"), "does not build for compute capability 9.9"),
        ({}, request(profiles=()), "no optimization profile has been defined"),
        ({}, request(profiles=(PlanProfile("decode", {"B": (1, 1, 1)}),)), "dimension 1 of input 'x' is 'S', which"),
        ({"dimensions": ("B", "T")}, request(), "is 'T', which the profile for prefill does not set (it sets B, S)"),
        (
            {},
            request(profiles=(PlanProfile("decode", {"B": (4, 2, 4), "S": (1, 1, 1)}),)),
            "refuses the optimization profile",
        ),
    ],
)
def test_what_tensorrt_refuses_is_one_line_and_leaves_nothing(tmp_path, changes, asked, words):
    model = write_graph(tmp_path, **changes)
    with pytest.raises(CompileError) as caught:
        build_plan(model, tmp_path / "model.plan", asked)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "_src" not in str(caught.value)
    assert not (tmp_path / "model.plan").exists()


def test_weights_that_are_missing_are_named(tmp_path):
    model = write_graph(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CompileError, match=r"cannot import model\.onnx: Failed to open file: .*weights\.bin"):
        build_plan(model, tmp_path / "model.plan", request())


@pytest.mark.parametrize("plugins", [False, True])
def test_a_file_that_is_no_graph_is_named(tmp_path, plugins):
    (tmp_path / "model.onnx").write_bytes(b"\xff\xff no graph")
    with pytest.raises(CompileError, match=r"cannot import model\.onnx: "):
        build_plan(tmp_path / "model.onnx", tmp_path / "model.plan", replace(request(), plugins=plugins))


def test_a_plan_is_never_written_over(tmp_path):
    model, plan = write_graph(tmp_path), tmp_path / "model.plan"
    plan.write_bytes(b"an older plan")
    with pytest.raises(FileExistsError):
        build_plan(model, plan, request())
    assert plan.read_bytes() == b"an older plan"


def test_a_full_disk_leaves_no_half_of_a_plan(tmp_path):
    model, plan = write_graph(tmp_path), tmp_path / "model.plan"
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            build_plan(model, plan, request())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not plan.exists()


def test_the_full_tensorrt_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # as where nothing of the name is installed
    with pytest.raises(
        UnsupportedError, match=r"the Python module tensorrt is not installed: pip install 'tensorrt==11"
    ):
        find_capabilities("tensorrt", [])


def test_a_package_of_the_name_without_a_builder_is_told_from_tensorrt(tmp_path, monkeypatch):
    (tmp_path / "tensorrt.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(UnsupportedError, match="the installed Python module tensorrt has no builder"):
        load_library("tensorrt")
    del sys.modules["tensorrt"]


def test_a_library_that_does_not_load_is_told_from_one_that_is_missing(tmp_path, monkeypatch):
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.11: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(
        UnsupportedError, match=r"the Python module tensorrt does not load \(libnvinfer.so.11: cannot open"
    ):
        load_library("tensorrt")


def test_warnings_are_kept_and_what_is_always_said_is_not():
    trt = load_library("tensorrt-rtx")
    severity = trt.ILogger.Severity
    with record_messages(trt) as (logger, messages):
        logger.log(severity.WARNING, "ModelImporter.cpp:1071: Make sure input ids has Int64 binding.")
        logger.log(severity.WARNING, "Tactic 3 is slow.\nMore about it.")
        logger.log(severity.INFO, "all is well")
        logger.log(severity.ERROR, "not well")
        with record_messages(trt) as (_, inner):
            logger.log(severity.WARNING, "of the inner one")
    assert messages.warnings == ["Tactic 3 is slow", "of the inner one"]
    assert messages.errors == ["not well"]
    assert inner.warnings == ["of the inner one"]


BUILD = "IBuilder::buildSerializedNetwork: Error Code "
LACKING = "Cannot compile for target(s) sm75, sm120, because the model contains HW-specific datatypes: int4, b16. "
OLD_DRIVER = "(cudaError 35: CUDA driver version is insufficient for CUDA runtime version))"
NO_PROFILE = "API Usage Error (Network has dynamic or shape inputs, but no optimization profile has been defined."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            f"{BUILD}1: Myelin ([pass.cpp:1500: run_passes] {LACKING}In compileGraph at /_src/myelin/code.cpp:2012)",
            "compute capability 7.5, 12.0 lacks int4, bf16: ",
        ),
        (
            f"{BUILD}1: Cuda Runtime (In generateForCurrent at /_src/core/cudaDeviceProfile.cpp:221 {OLD_DRIVER}",
            "an NVIDIA GPU and its driver; none works here (CUDA driver version is insufficient",
        ),
        (f"{BUILD}4: {NO_PROFILE} In validate at /_src/optimizer/api/network.cpp:4023)", f"{NO_PROFILE})"),
    ],
)
def test_errors_of_the_library_become_a_line_of_ours(error, words):
    assert words in explain([error, "a consequence"])
    assert "_src" not in clean(error)


def test_silence_is_called_silence():
    assert explain([]) == "it gave no reason"
