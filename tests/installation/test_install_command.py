"""The command that messages give for what is missing: it works for where the installation came from."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

import qwen3_compile
import qwen3_runtime
from qwen3_compile.cli.failures import extras_with
from qwen3_runtime.installation import install_command

ROOT = Path(__file__).parents[2]


def installed_from(monkeypatch: pytest.MonkeyPatch, record: object) -> None:
    text = None if record is None else json.dumps(record)
    found = SimpleNamespace(read_text=lambda name: text if name == "direct_url.json" else None)
    monkeypatch.setattr(metadata, "distribution", lambda _: found)


@pytest.mark.parametrize(
    ("record", "argument"),
    [
        ({"url": "file:///src/q", "dir_info": {"editable": True}}, "-e /src/q[build,cpu]"),
        ({"url": "file:///my%20src", "dir_info": {"editable": True}}, "-e '/my src[build,cpu]'"),
        ({"url": "file:///src/q", "dir_info": {}}, "/src/q[build,cpu]"),
        ({"url": "file:///d/q.whl", "archive_info": {}}, "'qwen3-compile[build,cpu] @ file:///d/q.whl'"),
        ({"url": "https://h/q.whl", "archive_info": {}}, "'qwen3-compile[build,cpu] @ https://h/q.whl'"),
        (
            {"url": "https://h/q.git", "vcs_info": {"vcs": "git", "commit_id": "0a1b"}},
            "'qwen3-compile[build,cpu] @ git+https://h/q.git@0a1b'",
        ),
        (None, "'qwen3-compile[build,cpu]'"),  # from an index, which still has it
    ],
)
def test_it_names_where_the_installation_came_from(
    monkeypatch: pytest.MonkeyPatch, record: object, argument: str
) -> None:
    installed_from(monkeypatch, record)
    command = install_command("build", "cpu")
    assert shlex.split(command) == ["pip", "install", *shlex.split(argument)]


def test_in_the_clone_itself_the_folder_is_a_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed_from(monkeypatch, {"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    monkeypatch.chdir(tmp_path)
    assert install_command("cpu") == "pip install -e '.[cpu]'"


def test_a_clone_on_the_path_is_named_though_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    monkeypatch.chdir("/")
    assert install_command("cpu") == f"pip install -e {shlex.quote(f'{ROOT}[cpu]')}"


def test_no_text_offers_the_package_from_an_index_that_does_not_have_it() -> None:
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for folder in ("qwen3_compile", "graphs", "plugins", "runtime", "scripts", "benchmarks"):
        texts += [path for path in (ROOT / folder).rglob("*") if path.suffix in ("", ".py", ".md") and path.is_file()]
    offering = [path for path in texts if "install 'qwen3-compile[" in path.read_text("utf-8", "replace")]
    assert not offering


@pytest.mark.parametrize(
    ("module", "extras"),
    [("onnx", ("cli", "cpu")), ("onnxruntime", ("cpu",)), ("torch", ("build", "cpu")), ("triton", ("tensorrt",))],
)
def test_a_missing_module_is_answered_with_the_smallest_extra(module: str, extras: tuple[str, ...]) -> None:
    assert extras_with(module) == extras


def test_the_version_is_one_everywhere() -> None:
    assert qwen3_compile.__version__ == qwen3_runtime.__version__ == metadata.version("qwen3-compile")
