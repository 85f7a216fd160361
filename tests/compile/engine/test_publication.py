"""An engine directory appears whole or not at all, whatever happens to the build."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from qwen3_compile.engine.publish import prepare_target, publication
from qwen3_compile.errors import CompileError

PUBLISH_AND_HANG = """
import sys, time
from pathlib import Path
from qwen3_compile.engine.publish import prepare_target, publication
with publication(Path(sys.argv[1])) as folder:
    (folder / "weights.bin").write_bytes(b"half")
    print(folder, flush=True)
    time.sleep(600)
"""


def fill(folder, content="new"):
    (folder / "weights.bin").write_text(content)
    manifest = {"schema_version": 1, "files": {"weights.bin": {}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def publish(target, content="new", *, at_the_end=lambda: None, **options):
    with publication(target, **options) as folder:
        fill(folder, content)
        at_the_end()


def fail(error):
    def failing():
        raise error

    return failing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_build_is_in_place_and_nothing_else_is(tmp_path):
    publish(tmp_path / "deep" / "engine")
    assert names(tmp_path / "deep") == ["engine"]
    assert names(tmp_path / "deep" / "engine") == ["manifest.json", "weights.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_build_that_ends_early_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        publish(tmp_path / "engine", at_the_end=fail(error))
    assert names(tmp_path) == []


def test_an_engine_is_replaced_only_by_force(tmp_path):
    publish(tmp_path / "engine", "old")
    with pytest.raises(CompileError, match="--force"):
        publish(tmp_path / "engine")
    assert (tmp_path / "engine" / "weights.bin").read_text() == "old"
    publish(tmp_path / "engine", force=True)
    assert (tmp_path / "engine" / "weights.bin").read_text() == "new"
    assert names(tmp_path) == ["engine"]


def test_a_failed_replacement_keeps_the_old_engine(tmp_path):
    publish(tmp_path / "engine", "old")
    with pytest.raises(RuntimeError):
        publish(tmp_path / "engine", force=True, at_the_end=fail(RuntimeError))
    assert (tmp_path / "engine" / "weights.bin").read_text() == "old"
    assert names(tmp_path) == ["engine"]


def make_home(folder):
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")


def make_engine_with_notes(folder):
    publish(folder)
    (folder / "notes.txt").write_text("mine")


def make_file(folder):
    folder.write_text("not a directory")


def make_link(folder):
    publish(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


@pytest.mark.parametrize("make", [make_home, make_engine_with_notes, make_file, make_link])
def test_what_is_not_an_engine_is_never_replaced(tmp_path, make):
    make(tmp_path / "engine")
    before = names(tmp_path)
    with pytest.raises(CompileError, match="choose another place"):
        publish(tmp_path / "engine", force=True)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("/proc/engine", "/proc: cannot create an engine here"),
        ("file/engine", r"/file: cannot create an engine here \(Not a directory\)"),
        ("file/deep/er/engine", "/file: cannot create an engine here"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_refused_before_any_work(tmp_path, place, reason):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(CompileError, match=reason):
        prepare_target(tmp_path / place, force=False)
    assert names(tmp_path) == ["file"]


def test_folders_above_an_engine_are_not_made_before_it(tmp_path):
    assert prepare_target(tmp_path / "deep" / "er" / "engine", force=False).name == "engine"
    assert names(tmp_path) == []


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "engine").mkdir()
    publish(tmp_path / "engine")
    assert names(tmp_path / "engine") == ["manifest.json", "weights.bin"]


def test_an_engine_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(CompileError, match="--force"):
        publish(tmp_path / "engine", at_the_end=lambda: publish(tmp_path / "engine", "first"))
    assert (tmp_path / "engine" / "weights.bin").read_text() == "first"
    assert names(tmp_path) == ["engine"]


def hanging_build(target):
    command = [sys.executable, "-c", PUBLISH_AND_HANG, str(target)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return process, process.stdout.readline().strip()


def test_what_a_killed_build_left_is_removed_by_the_next_one(tmp_path):
    process, partial = hanging_build(tmp_path / "engine")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert os.path.isdir(partial)  # noqa: PTH112
    publish(tmp_path / "engine")
    assert names(tmp_path) == ["engine"]


def test_a_running_build_is_left_alone(tmp_path):
    process, partial = hanging_build(tmp_path / "engine")
    try:
        publish(tmp_path / "engine")
        assert os.path.isdir(partial)  # noqa: PTH112
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_leftover_under_our_own_process_number_is_no_running_build(tmp_path):
    """In a container every start has the same number, also the one that was killed."""
    leftover = tmp_path / f".engine.partial-{os.getpid()}-0"
    leftover.mkdir()
    (leftover / "weights.bin").write_bytes(b"half")
    publish(tmp_path / "engine")
    assert names(tmp_path) == ["engine"]


def dead_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_an_engine_set_aside_by_a_killed_replacement_comes_back(tmp_path):
    publish(tmp_path / "engine", "old")
    (tmp_path / "engine").rename(tmp_path / f".engine.old-{dead_process()}-0")
    with pytest.raises(CompileError, match="--force"), publication(tmp_path / "engine"):
        pytest.fail("the build began, though an engine is in its place")
    assert (tmp_path / "engine" / "weights.bin").read_text() == "old"


def test_siblings_of_other_engines_are_left_alone(tmp_path):
    other = tmp_path / f".engine-2.partial-{dead_process()}-0"
    other.mkdir()
    publish(tmp_path / "engine")
    assert other.is_dir()


def test_an_interrupt_of_the_process_leaves_nothing(tmp_path):
    process, _ = hanging_build(tmp_path / "engine")
    process.send_signal(signal.SIGINT)
    process.wait(timeout=300)
    process.stdout.close()
    assert names(tmp_path) == []
