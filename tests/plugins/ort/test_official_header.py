"""abi.h beside ONNX Runtime's own C header, where that is at hand: `scripts/official-header` brings it.

Covers: slots, fields and constants of `abi.h`; in CI, elsewhere after `scripts/official-header` (150 MB)
Reference: ONNX Runtime's C header, version 29
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from qwen3_plugins.ort.compile import compiler

ROOT = Path(__file__).parents[3]
ABI = ROOT / "plugins/qwen3_plugins/ort/src/abi.h"
HEADER = "onnxruntime_c_api.h"
PLACES = (ROOT / "build/official-header", Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime"))


def constant(name: str, text: str) -> int:
    found = re.search(rf"\b{name}\s*=?\s*(\d+)", text)
    assert found, f"{name} is not found"
    return int(found[1])


def header_folder() -> Path:
    """The folder of a header that is new enough, or the test is skipped."""
    chosen = os.environ.get("QWEN3_ORT_HEADER")
    oldest = constant("kApiVersion", ABI.read_text())
    for folder in (Path(chosen),) if chosen else PLACES:
        header = folder / HEADER
        if header.is_file() and constant("ORT_API_VERSION", header.read_text()) >= oldest:
            return folder
    pytest.skip(f"no {HEADER} of version {oldest} or newer: run scripts/official-header, or set QWEN3_ORT_HEADER")


def comparison(abi: str) -> str:
    """A program that compiles where all that abi.h declares is as the official header has it."""
    slots = dict(re.findall(r"^  k(\w+) = (\d+),$", abi, re.MULTILINE))
    fields = re.findall(r"\(\*(\w+)\)", abi[abi.index("struct OrtCustomOp {") : abi.index("static_assert")])
    constants = re.findall(r"\b((?:ORT|ONNX|INPUT|OrtMem)\w+) = \d+", abi)
    assert (len(slots), len(fields), len(constants)) == (17, 25, 14), "abi.h is not read whole, or has grown"
    checks = [f"offsetof(::OrtApi, {name}) == 8 * {slot}" for name, slot in slots.items()]
    checks += [f"offsetof(::OrtCustomOp, {name}) == offsetof(ours::OrtCustomOp, {name})" for name in fields]
    checks += [f"int(::{name}) == int(ours::{name})" for name in constants]
    checks += ["sizeof(::OrtCustomOp) >= sizeof(ours::OrtCustomOp)"]
    lines = [
        "#include <cstddef>",
        "#include <cstdint>",
        f"#include <{HEADER}>",
        "namespace ours {",
        '#include "abi.h"',
        "}",
    ]
    return "\n".join([*lines, *(f'static_assert({check}, "");' for check in checks), ""])


def compare(abi: str, folder: Path) -> str:
    """What the compiler says to a text of abi.h: nothing where it is right."""
    cxx = compiler()
    if cxx is None:
        pytest.skip("no C++ compiler")
    official = header_folder()
    (folder / "abi.h").write_text(abi)
    (folder / "compare.cpp").write_text(comparison(abi))
    command = [cxx, "-std=c++17", "-fsyntax-only", "-I", str(folder), "-isystem", str(official), "compare.cpp"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr


def test_slots_fields_and_constants_are_those_of_the_official_header(tmp_path: Path) -> None:
    assert compare(ABI.read_text(), tmp_path) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("kKernelContext_GetOutput = 91", "kKernelContext_GetOutput = 92"),
        ("kAddCustomOpDomain = 28", "kNoSuchFunction = 28"),
        ("ELEMENT_DATA_TYPE_FLOAT16 = 10", "ELEMENT_DATA_TYPE_FLOAT16 = 11"),
        (
            "int (*GetStartVersion)(const OrtCustomOp*);\n  int (*GetEndVersion)",
            "int (*GetEndVersion)(const OrtCustomOp*);\n  int (*GetStartVersion)",
        ),
    ],
    ids=("slot", "name", "constant", "field"),
)
def test_a_wrong_declaration_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    abi = ABI.read_text()
    assert right in abi
    own = abi[: abi.index("static_assert(sizeof(OrtCustomOp)")] + abi[abi.index("namespace qwen3::abi {") :]
    assert compare(own, tmp_path) == ""
    assert "error" in compare(own.replace(right, wrong), tmp_path)
