"""Our own code and the libraries that a result depends on: found without importing anything."""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib.metadata import PackageNotFoundError

import pytest

from qwen3_compile import machine
from qwen3_compile.pipeline import fingerprint


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `sample`: entry.py imports near.py and beside.py, near.py far.py; other.py stands alone.

    Its package `deep` imports nothing, and has the modules `one` and `two`.
    """
    folder = tmp_path / "sample"
    folder.mkdir()
    sources = {
        "__init__": "",
        "entry": "from sample.near import f\nfrom sample import beside as b",
        "near": "def f():\n    import sample.far",
        "far": "x = 1",
        "beside": "x = 1\nimport os\nfrom sample.deep.one import *",
        "deep/__init__": "",
        "deep/one": "x = 1",
        "deep/two": "x = 1",
        "other": "y = 1",
    }
    (folder / "deep").mkdir()
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
        ("sample.entry", "beside", True),
        ("sample.entry", "deep/__init__", True),
        ("sample.entry", "deep/one", True),
        ("sample.entry", "deep/two", False),
        ("sample.entry", "other", False),
        ("sample", "other", True),
        ("sample", "deep/two", True),
        ("sample.deep", "deep/two", True),
        ("sample.deep", "entry", False),
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


def test_a_library_may_be_installed_under_its_name_for_gpus(monkeypatch):
    installed = {"a": "1", "a-gpu": "2", "b-gpu": "3"}

    def version(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(machine, "version", version)
    assert fingerprint.tool_versions(("a", "b", "c")) == {"a": "1", "b": "3"}


def test_a_digest_depends_on_values_and_not_on_the_order_of_keys():
    value = {"a": [1, {"b": None, "c": "é"}], "d": 0.5}
    text = '{"a": [1, {"b": null, "c": "\\u00e9"}], "d": 0.5}'
    assert fingerprint.digest(value) == sha256(text.encode()).hexdigest()
    assert fingerprint.digest({"d": 0.5, "a": [1, {"c": "é", "b": None}]}) == fingerprint.digest(value)
    with pytest.raises(ValueError, match="JSON compliant"):
        fingerprint.digest({"a": float("nan")})


def test_tools_are_named_with_their_versions():
    versions = fingerprint.tool_versions()
    assert {"qwen3-compile", "numpy", "torch", "onnxruntime", "onnx"} <= set(versions)
    assert all(versions.values())
    assert fingerprint.tool_versions(("no-such-distribution-anywhere",)) == {}
