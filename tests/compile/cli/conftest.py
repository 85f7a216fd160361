"""An engine of the tiny dense model, built once by the command line for all tests of this folder."""

from pathlib import Path

import pytest
from filelock import FileLock

from qwen3_compile.cli import main

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A folder that all workers share; `cache` in it is the builds' cache."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def engine(shared):
    """The engine that the README's first command builds."""
    built = shared / "tiny-dense"
    with FileLock(shared / "tiny-dense.lock"):
        if not built.exists():
            arguments = ["build", str(ROOT / "specs" / "tiny-dense.yaml"), "-o", str(built)]
            assert main([*arguments, "--cache-dir", str(shared / "cache")]) == 0
    return built
