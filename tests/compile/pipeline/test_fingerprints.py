"""Our own code and the libraries that a result depends on: found without importing anything."""

from __future__ import annotations

import sys

import pytest

from qwen3_compile.pipeline import fingerprint


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `sample`: entry.py imports near.py, which imports far.py; other.py stands alone."""
    folder = tmp_path / "sample"
    folder.mkdir()
    sources = {
        "__init__": "",
        "entry": "from sample.near import f",
        "near": "def f():\n    import sample.far",
        "far": "x = 1",
        "other": "y = 1",
    }
    for name, text in sources.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fingerprint, "_OURS", ("sample",))
    yield folder
    sys.modules.pop("sample", None)


@pytest.mark.parametrize(
    ("module", "changed", "counts"),
    [
        ("sample.entry", "entry", True),
        ("sample.entry", "near", True),
        ("sample.entry", "far", True),
        ("sample.entry", "__init__", True),
        ("sample.entry", "other", False),
        ("sample", "other", True),
    ],
)
def test_code_counts_where_it_is_imported(package, module, changed, counts):
    fingerprint._module.cache_clear()
    before = fingerprint.code_fingerprint.__wrapped__(module)
    (package / f"{changed}.py").write_text("z = 2")
    fingerprint._module.cache_clear()
    assert (fingerprint.code_fingerprint.__wrapped__(module) != before) == counts


def test_fingerprints_import_nothing():
    modules = set(sys.modules)
    fingerprint.code_fingerprint.__wrapped__("qwen3_graphs.trace")
    assert set(sys.modules) <= modules | {"qwen3_graphs"}


def test_tools_are_named_with_their_versions():
    versions = fingerprint.tool_versions()
    assert {"qwen3-compile", "numpy", "torch", "onnxruntime", "onnx"} <= set(versions)
    assert all(versions.values())
    assert fingerprint.tool_versions(("no-such-distribution-anywhere",)) == {}
