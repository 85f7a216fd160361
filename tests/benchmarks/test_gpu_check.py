"""gpu_check.py tells a device that reads the graph as the CPU does from one that does not, and says what is wrong.

Covers: the CPU's half; a mask aligned with the upper left, a cache updated at the wrong place, lengths of the wrong
    sequence are found
Reference: a graph that was changed so
"""

import re
import shlex
import shutil
import sys
from pathlib import Path

import gpu_check
import onnx
import pytest
from onnx import helper

from qwen3_compile.spec import find_spec, load_spec
from qwen3_runtime.directory import read_engine_directory


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return gpu_check.one_layer_engine(
        tmp_path_factory.mktemp("check"), "tiny-dense", ["target.compute_capabilities=['8.9']"]
    )


def on_cpu(path):
    return gpu_check.results(path, on_cpu=True)


def replace_input(graph, op_type, position, make):
    """Replace one input of each node of a kind by what `make` computes of it."""
    users = [node for node in graph.node if node.op_type == op_type]
    made = make(users[0].input[position])
    for node in reversed(made):
        graph.node.insert(list(graph.node).index(users[0]), node)
    for user in users:
        user.input[position] = made[-1].output[0]


def caches_are_updated_at_their_beginning(model):
    replace_input(
        model.graph, "TRT_KVCacheUpdate", 2, lambda past: [helper.make_node("Sub", [past, past], ["changed"])]
    )


def every_sequence_has_the_longest_ones_keys(model):
    def longest(lengths):
        return [
            helper.make_node("Sub", [lengths, lengths], ["none"]),
            helper.make_node("ReduceMax", [lengths], ["longest"], keepdims=1),
            helper.make_node("Add", ["longest", "none"], ["changed"]),
        ]

    replace_input(model.graph, "TRT_Attention", 5, longest)


def the_mask_is_aligned_with_the_upper_left(model):
    attention = next(function for function in model.functions if function.name == "TRT_Attention")
    past = next(node for node in attention.node if node.op_type == "Sub")
    past.input[1] = past.input[0]


def test_the_same_numbers_agree(engine, capsys):
    found = on_cpu(engine)
    assert gpu_check.compare(found, found, 0.0)
    assert capsys.readouterr().out.count("ok   ") == len(gpu_check.CHECKS)


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (caches_are_updated_at_their_beginning, "one more token after it"),
        (the_mask_is_aligned_with_the_upper_left, "one more token after it"),
        (every_sequence_has_the_longest_ones_keys, "one token each after 9, 5 and 2"),
    ],
)
def test_a_graph_that_is_read_wrongly_fails_first_where_it_matters(
    engine, tmp_path, capsys, monkeypatch, change, first
):
    manifest = read_engine_directory(engine)
    monkeypatch.setattr("gpu_check.read_engine_directory", lambda *_: manifest)  # of the graph as it was
    wrong = shutil.copytree(engine, tmp_path / "wrong")
    model = onnx.load(engine / "model.onnx", load_external_data=False)
    change(model)
    (wrong / "model.onnx").write_bytes(model.SerializeToString())
    assert not gpu_check.compare(on_cpu(wrong), on_cpu(engine), gpu_check.TOLERANCE["float16"])
    lines = capsys.readouterr().out.splitlines()
    failed = next(number for number, line in enumerate(lines) if line.startswith("FAIL"))
    assert lines[failed].endswith(first)
    meaning = next(check.meaning for check in gpu_check.CHECKS if check.name == first)
    assert lines[failed + 1].endswith(meaning)


def test_without_a_gpu_it_says_so_in_one_line(engine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--engine", str(engine)])
    with pytest.raises(SystemExit, match="error: no NVIDIA GPU that CUDA can use"):
        gpu_check.main()


def test_its_cpu_half_runs_anywhere(engine, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--cpu-only", "--engine", str(engine)])
    gpu_check.main()
    assert "9 checks ran" in capsys.readouterr().out


def documented_builds():
    """Every command of docs/gpu-bringup.md that builds an engine: spec, and what it sets."""
    text = (Path(__file__).parents[2] / "docs" / "gpu-bringup.md").read_text().replace("\\\n", " ")
    half = re.search('FP16="(.*)"', text).group(1)
    for line in text.replace("$FP16", half).splitlines():
        words = shlex.split(line, comments=True) if line.startswith("    ") else []
        sets = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
        if words[:2] == ["qwen3-compile", "build"]:
            yield words[2], sets
        elif words[:2] == ["python", "benchmarks/gpu_check.py"]:
            spec = words[words.index("--spec") + 1] if "--spec" in words else "qwen3-0.6b"
            yield spec, [*gpu_check.ONE_LAYER, *sets]


@pytest.mark.parametrize(("spec", "overrides"), list(documented_builds()))
def test_what_the_bring_up_tells_to_build_is_a_valid_spec(spec, overrides):
    assert load_spec(find_spec(spec), overrides).target.provider == "cuda"
