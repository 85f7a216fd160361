"""A copied file is a file of its own, whatever the file system offers, and a hash is that of the bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil

import pytest

from qwen3_compile.engine import files
from qwen3_compile.errors import CompileError

CONTENT = bytes(range(256)) * 5000


@pytest.mark.parametrize("failing", [None, errno.EXDEV, errno.EOPNOTSUPP])
@pytest.mark.parametrize("size", [0, 1, len(CONTENT)])
def test_a_copy_is_a_file_of_its_own(tmp_path, monkeypatch, failing, size):
    if failing:

        def refuse(*_):
            raise OSError(failing, "not here")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    (tmp_path / "a").write_bytes(CONTENT[:size])
    files.copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == CONTENT[:size]
    assert (tmp_path / "b").stat().st_nlink == 1


def test_a_copy_that_the_kernel_gives_up_halfway_is_completed(tmp_path, monkeypatch):
    real, calls = os.copy_file_range, []

    def once(source, target, count):
        calls.append(count)
        if len(calls) > 1:
            raise OSError(errno.EXDEV, "not any more")
        return real(source, target, 1000)

    monkeypatch.setattr(os, "copy_file_range", once)
    (tmp_path / "a").write_bytes(CONTENT)
    files.copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == CONTENT


def test_the_target_of_a_link_is_copied_not_the_link(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    files.copy_file(tmp_path / "link", tmp_path / "b")
    assert not (tmp_path / "b").is_symlink()
    assert (tmp_path / "b").read_bytes() == CONTENT


def test_an_entry_is_the_size_and_hash_of_a_file(tmp_path):
    (tmp_path / "weights.bin").write_bytes(CONTENT)
    entry = files.file_entry(tmp_path / "weights.bin")
    assert entry.size == len(CONTENT)
    assert entry.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_disk_that_is_too_small_is_one_clear_line(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    files.check_space(tmp_path, free // 4)
    with pytest.raises(CompileError, match=r"GB are needed and .* GB are free"):
        files.check_space(tmp_path, free)
