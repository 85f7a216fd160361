"""How a stage is run: prepared, looked up, made where it is not known, and taken into the build."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qwen3_compile.pipeline import fingerprint
from qwen3_compile.pipeline.cache import Cache
from qwen3_compile.pipeline.stage import Stage, run_stage


class Told:
    """Remembers what progress is told."""

    def __init__(self):
        self.lines = []

    def begin(self, stage, total=None):
        self.lines.append(("begin", stage, total))

    def note(self, text):
        self.lines.append(("note", text))

    def end(self, outcome=""):
        self.lines.append(("end", outcome))


class Sample(Stage):
    """Makes two files, and remembers what is asked of it."""

    name = "sample"

    def __init__(self, build):
        super().__init__(build)
        self.asked = {"a": 1}
        self.calls = []

    def size(self):
        return 7

    def prepare(self):
        self.calls.append("prepare")

    def inputs(self):
        self.calls.append("inputs")
        return self.asked

    def outputs(self):
        return {"first": self.build.folder / "first", "second": self.build.folder / "second"}

    def produce(self):
        self.calls.append("produce")
        for path in self.outputs().values():
            path.write_bytes(b"made")

    def finish(self):
        self.calls.append("finish")
        return "said"


@pytest.fixture
def build(tmp_path):
    """build(name): what stages share, with a folder of its own and one cache."""

    def build(name):
        (tmp_path / name).mkdir()
        return SimpleNamespace(folder=tmp_path / name, cache=Cache(tmp_path / "cache"), progress=Told())

    return build


def test_a_result_is_made_once_and_then_taken_from_the_cache(build):
    first, second = Sample(build("one")), Sample(build("two"))
    run_stage(first)
    assert first.calls == ["prepare", "inputs", "produce", "finish"]
    assert first.build.progress.lines == [("begin", "sample", 7), ("end", "said")]
    run_stage(second)
    assert second.calls == ["prepare", "inputs", "finish"]
    assert second.build.progress.lines == [("begin", "sample", 7), ("end", "said, from the cache")]
    assert {path.name: path.read_bytes() for path in second.build.folder.iterdir()} == {
        "first": b"made",
        "second": b"made",
    }


def test_other_inputs_are_another_result(build):
    run_stage(Sample(build("one")))
    other = Sample(build("two"))
    other.asked = {"a": 2}
    run_stage(other)
    assert "produce" in other.calls


def test_a_result_that_is_not_kept_is_made_each_time(build):
    for name in ("one", "two"):
        stage = Sample(build(name))
        stage.asked = None
        assert stage.key() is None
        run_stage(stage)
        assert "produce" in stage.calls
    assert not stage.build.cache.root.exists()


def test_a_result_of_which_a_file_is_gone_is_made_again_as_a_whole(build):
    run_stage(Sample(build("one")))
    again = Sample(build("two"))
    (entry,) = (again.build.cache.root / "v1" / "second").iterdir()
    (entry / "content").write_bytes(b"damaged")

    def produce():
        assert list(again.build.folder.iterdir()) == []
        Sample.produce(again)

    again.produce = produce
    run_stage(again)
    assert "produce" in again.calls


def test_a_cache_that_cannot_be_written_is_told_and_fails_nothing(build, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Cache, "store", full)
    stage = Sample(build("one"))
    run_stage(stage)
    assert stage.build.progress.lines[1] == ("note", "not cached: [Errno 28] No space left on device")
    assert stage.calls[-1] == "finish"


def test_a_stage_without_a_name_is_not_told_of(build):
    stage = Sample(build("one"))
    stage.name = None
    run_stage(stage)
    assert stage.build.progress.lines == []
    assert stage.calls[-1] == "finish"


def test_a_stage_with_nothing_to_do_is_a_stage(build):
    stage = Stage(build("one"))
    stage.name = "idle"
    assert Stage.expected(None, None)
    run_stage(stage)
    assert stage.build.progress.lines == [("begin", "idle", None), ("end", "")]
    assert (stage.key(), stage.outputs()) == (None, {})


def test_a_stage_without_outputs_always_works(build):
    for name in ("one", "two"):
        stage = Sample(build(name))
        stage.outputs = dict
        stage.produce = lambda stage=stage: stage.calls.append("produce")
        run_stage(stage)
        assert "produce" in stage.calls


def test_the_source_of_a_stage_counts(build, monkeypatch):
    stage = Sample(build("one"))
    monkeypatch.setattr(Sample, "__module__", "qwen3_compile.pipeline.stages.pack")
    first = stage.key()
    monkeypatch.setattr(Sample, "__module__", "qwen3_compile.pipeline.stages.lower")
    assert stage.key() != first
    assert fingerprint.source_sha256("json") is None
