"""The cache by itself: entries appear whole, are checked when they are used, and go when they are out of use."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from qwen3_compile.errors import CompileError
from qwen3_compile.pipeline import cache as module
from qwen3_compile.pipeline.cache import UNUSED_DAYS, Cache, Entry

CONTENT = b"content"
SHA256 = sha256(CONTENT).hexdigest()
DAY = 24 * 60 * 60


@pytest.fixture
def cache(tmp_path):
    """A cache with one entry, `stage/key`."""
    (tmp_path / "source").write_bytes(CONTENT)
    cache = Cache(tmp_path / "cache")
    cache.store("stage", "key", tmp_path / "source")
    return cache


def entry_of(cache, key="key", stage="stage"):
    return cache.root / "v1" / stage / key


def test_an_entry_comes_back_as_a_copy_with_its_hash(cache, tmp_path):
    assert cache.fetch("stage", "key", tmp_path / "found") == SHA256
    assert (tmp_path / "found").read_bytes() == CONTENT
    assert (tmp_path / "found").stat().st_nlink == 1
    assert (entry_of(cache) / "content").read_bytes() == CONTENT


@pytest.mark.parametrize(("stage", "key"), [("stage", "other"), ("other", "key")])
def test_another_stage_or_key_is_another_entry(cache, tmp_path, stage, key):
    assert cache.fetch(stage, key, tmp_path / "found") is None
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize(
    ("file", "damage"), [("content", b""), ("content", None), ("sha256", b"0"), ("sha256", b"\xff")]
)
def test_a_damaged_entry_is_thrown_away(cache, tmp_path, file, damage):
    path = entry_of(cache) / file
    path.unlink() if damage is None else path.write_bytes(damage)
    assert cache.fetch("stage", "key", tmp_path / "found") is None
    assert not (tmp_path / "found").exists()
    assert not entry_of(cache).exists()
    cache.store("stage", "key", tmp_path / "source")
    assert cache.fetch("stage", "key", tmp_path / "found") == SHA256


def test_a_kept_entry_is_not_stored_again(cache, tmp_path):
    (tmp_path / "source").write_bytes(b"another")
    cache.store("stage", "key", tmp_path / "source")
    assert cache.fetch("stage", "key", tmp_path / "found") == SHA256


def test_a_store_that_fails_leaves_nothing_behind(cache, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "copy_file", full)
    with pytest.raises(OSError, match="No space"):
        cache.store("stage", "other", tmp_path / "source")
    assert [path.name for path in entry_of(cache).parent.iterdir()] == ["key"]


def test_a_store_that_another_build_was_faster_with_is_no_error(cache, tmp_path, monkeypatch):
    copy = module.copy_file

    def overtaken(source, target):
        copy(source, target)
        monkeypatch.setattr(module, "copy_file", copy)
        cache.store("stage", "other", tmp_path / "source")

    monkeypatch.setattr(module, "copy_file", overtaken)
    cache.store("stage", "other", tmp_path / "source")
    assert sorted(path.name for path in entry_of(cache).parent.iterdir()) == ["key", "other"]
    assert cache.fetch("stage", "other", tmp_path / "found") == SHA256


def test_without_a_folder_nothing_is_kept(tmp_path):
    (tmp_path / "source").write_bytes(b"x")
    cache = Cache(None)
    cache.open()
    cache.store("stage", "key", tmp_path / "source")
    assert cache.fetch("stage", "key", tmp_path / "found") is None
    assert (cache.entries(), cache.prune(0), cache.clear()) == ([], 0, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_the_folder_is_made_with_those_above_it_and_may_be_there(tmp_path):
    cache = Cache(tmp_path / "a" / "b")
    cache.open()
    assert (tmp_path / "a" / "b").is_dir()
    cache.open()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CompileError, match=r"b: cannot write the cache here \(Not a directory\); pass --cache-dir"):
        Cache(tmp_path / "file" / "b").open()


def test_a_cache_that_cannot_be_written_is_read(cache, tmp_path, monkeypatch):
    def read_only(*_):
        raise PermissionError

    monkeypatch.setattr(os, "utime", read_only)
    assert cache.fetch("stage", "key", tmp_path / "found") == SHA256


def test_a_damaged_entry_that_cannot_be_removed_fails_nothing(cache, tmp_path, monkeypatch):
    def read_only(*_arguments, **_options):
        raise PermissionError

    (entry_of(cache) / "content").write_bytes(b"damaged")
    monkeypatch.setattr(os, "unlink", read_only)
    monkeypatch.setattr(os, "rmdir", read_only)
    assert cache.fetch("stage", "key", tmp_path / "found") is None
    cache.store("stage", "key", tmp_path / "source")
    assert cache.prune(-1) == len(b"damaged") + len(SHA256)
    assert cache.clear() == len(b"damaged") + len(SHA256)


def test_a_target_that_cannot_be_written_does_not_cost_the_entry(cache, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        cache.fetch("stage", "key", tmp_path / "nowhere" / "found")
    assert cache.fetch("stage", "key", tmp_path / "found") == SHA256


def test_many_builds_may_store_and_fetch_the_same_entry(tmp_path):
    cache = Cache(tmp_path / "cache")
    content = bytes(range(256)) * 2000
    (tmp_path / "source").write_bytes(content)

    def work(number):
        found = cache.fetch("stage", "key", tmp_path / f"out-{number}")
        cache.store("stage", "key", tmp_path / "source")
        return found is None or (tmp_path / f"out-{number}").read_bytes() == content

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))
    assert [path.name for path in (tmp_path / "cache" / "v1" / "stage").iterdir()] == ["key"]


def aged(cache, key, days):
    """Make an entry look as if it was last used some days ago."""
    then = time.time() - days * DAY
    os.utime(entry_of(cache, key), (then, then))
    return then


def test_entries_are_listed_with_their_size_and_last_use(cache, tmp_path):
    cache.store("another", "key", tmp_path / "source")
    cache.store("stage", "a", tmp_path / "source")
    (cache.root / "v1" / "stage" / "stranger").write_bytes(b"no folder, no entry")
    then = aged(cache, "key", 3)
    found = cache.entries()
    assert [(entry.stage, entry.key) for entry in found] == [("another", "key"), ("stage", "a"), ("stage", "key")]
    assert found[-1] == Entry("stage", "key", len(CONTENT) + len(SHA256), pytest.approx(then, abs=1e-3))


def test_entries_out_of_use_are_pruned_and_those_in_use_stay(cache, tmp_path):
    for key, days in (("old", 31), ("older", 100), ("young", 29)):
        cache.store("stage", key, tmp_path / "source")
        aged(cache, key, days)
    assert UNUSED_DAYS == 30
    assert cache.prune(UNUSED_DAYS) == 2 * (len(CONTENT) + len(SHA256))
    assert {entry.key for entry in cache.entries()} == {"key", "young"}


def test_an_entry_is_in_use_when_a_build_takes_it(cache, tmp_path):
    aged(cache, "key", 100)
    assert cache.fetch("stage", "key", tmp_path / "found") == SHA256
    assert cache.prune(1) == 0


def test_clearing_removes_every_entry_and_says_how_much(cache, tmp_path):
    cache.store("another", "key", tmp_path / "source")
    assert cache.clear() == 2 * (len(CONTENT) + len(SHA256))
    assert list(cache.root.iterdir()) == []
    assert cache.entries() == []


def test_entries_of_another_layout_are_not_read(cache, tmp_path):
    (cache.root / "v1").rename(cache.root / "v0")
    assert cache.fetch("stage", "key", tmp_path / "found") is None
    assert cache.entries() == []
