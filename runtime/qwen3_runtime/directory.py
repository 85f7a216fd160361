"""Checks of an engine directory that pass before any of its files is parsed or mapped."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qwen3_runtime.arguments import shown
from qwen3_runtime.engine_files import MANIFEST, MODEL, PLAN, WEIGHTS
from qwen3_runtime.errors import DamagedEngineError, RequestError
from qwen3_runtime.manifest import MAX_MANIFEST_BYTES, FileEntry, Manifest, parse_manifest
from qwen3_runtime.signatures import MAX_SIGNATURE_BYTES, SIGNATURES, Signature, check_signed, parse_signatures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qwen3_runtime.signatures import KeyFile

Verify = Literal["fast", "full"]

_HEAVY = (WEIGHTS, PLAN)  # a plan holds the weights again


def read_engine_directory(
    path: str | os.PathLike[str],
    verify: Verify | None = None,
    *,
    strict: bool = True,
    trusted_keys: Sequence[KeyFile] = (),
) -> Manifest:
    """Read the manifest of an engine and hold its directory to it.

    Every listed file must be a regular file of its own (no symbolic link, no hard link) with the listed size
    and SHA-256; nothing else may lie beside them. The directory itself may be reached through a link.

    Args:
        path: the engine directory.
        verify: `fast` trusts the bytes of `weights.bin` and `model.plan` and checks only their size, which keeps
            opening at milliseconds; `full` hashes them too, at the speed of the disk (roughly 0.5 s a gigabyte when
            cached). The default is `full` with `trusted_keys`, else `fast`.
        strict: False also takes files that are links or have other names, as in the hub's cache, a ConfigMap or a
            store of hard links, and ignores files that the manifest does not list. Sizes and hashes are checked all the
            same; who can write where the links lead can change a file after the check.
        trusted_keys: files with Ed25519 public keys in PEM; one of them must have signed the manifest. That is checked
            before anything is parsed. A plan, which is executable, is then hashed with `fast` too.

    Raises:
        DamagedEngineError: naming the first file that does not match.
        UntrustedEngineError: no trusted key signed the manifest.
        UnsupportedEngineError: another version made it, or `cryptography` is missing and keys are given.
        RequestError: `verify` or `trusted_keys` is wrong.
    """
    if verify is not None and not (isinstance(verify, str) and verify in ("fast", "full")):
        raise RequestError.at("verify", f"expected 'fast' or 'full', found {shown(verify)}")
    root = Path(path)
    if not root.is_dir():
        raise DamagedEngineError(f"{root}: no such engine directory")
    signed = _is_asked_for(trusted_keys)
    manifest_path = root / MANIFEST
    raw = _small_file(manifest_path, MAX_MANIFEST_BYTES, "a manifest", strict=strict)
    if signed:
        check_signed(raw, read_signatures(root, strict=strict), trusted_keys, str(root))
    manifest = parse_manifest(raw, str(manifest_path))
    for name in (MODEL, WEIGHTS, *((PLAN,) if manifest.target.has_plan else ())):
        if name not in manifest.files:
            raise DamagedEngineError(
                f"{manifest_path}: files does not list {name}; the engine is incomplete, build it again"
            )
    if strict:
        _refuse_strangers(root, manifest)
    trusted = () if verify == "full" or (verify is None and signed) else (WEIGHTS,) if signed else _HEAVY
    for name, entry in sorted(manifest.files.items()):
        _check_file(root / name, entry, hashed=name not in trusted, strict=strict)
    return manifest


def read_signatures(root: Path, *, strict: bool = True) -> tuple[Signature, ...]:
    """The signatures of an engine's manifest, not verified; none where there is no `manifest.sig`.

    Raises:
        DamagedEngineError: the file is damaged, or (`strict`) a link.
    """
    path = root / SIGNATURES
    if not os.path.lexists(path):
        return ()
    return parse_signatures(_small_file(path, MAX_SIGNATURE_BYTES, SIGNATURES, strict=strict), str(path))


def _is_asked_for(trusted_keys: object) -> bool:
    """Whether keys are given. An empty list is nobody's wish for no check: it is refused."""
    if isinstance(trusted_keys, str | bytes | os.PathLike):
        raise RequestError.at("trusted_keys", "expected a list of paths, found one path; put it in a list")
    if trusted_keys == [] or trusted_keys is None:
        raise RequestError.at("trusted_keys", "expected at least one file with a public key, found none")
    return trusted_keys != ()


def _small_file(path: Path, max_bytes: int, what: str, *, strict: bool) -> bytes:
    status = _regular_file(path, strict=strict)
    if status.st_size > max_bytes:
        raise DamagedEngineError(f"{path}: {status.st_size} bytes, more than the {max_bytes} {what} may have")
    return b"".join(_chunks(path, strict=strict))


def _refuse_strangers(root: Path, manifest: Manifest) -> None:
    for entry in sorted(os.listdir(root)):  # noqa: PTH208 - names only, the files are not touched yet
        if entry not in (MANIFEST, SIGNATURES) and entry not in manifest.files:
            raise DamagedEngineError(
                f"{root}: {entry!r} is not listed in manifest.json; move it out of the engine directory, or open the "
                "engine with strict=False (--no-strict)"
            )


def _check_file(path: Path, entry: FileEntry, *, hashed: bool, strict: bool) -> None:
    status = _regular_file(path, strict=strict)
    if status.st_size != entry.size:
        raise DamagedEngineError(
            f"{path}: {status.st_size} bytes, the manifest says {entry.size}; copy or build it again"
        )
    if hashed:
        digest = hashlib.sha256()
        for chunk in _chunks(path, strict=strict):
            digest.update(chunk)
        if digest.hexdigest() != entry.sha256:
            raise DamagedEngineError(
                f"{path}: SHA-256 is {digest.hexdigest()[:12]}…, the manifest says {entry.sha256[:12]}…; "
                "the file was changed or damaged, copy or build it again"
            )


def _regular_file(path: Path, *, strict: bool) -> os.stat_result:
    try:
        status = path.lstat() if strict else path.stat()
    except OSError as error:
        raise DamagedEngineError(f"{path}: missing from the engine directory ({error.strerror})") from None
    if stat.S_ISLNK(status.st_mode):
        raise DamagedEngineError(
            f"{path}: a symbolic link; an engine holds only regular files, copy the target here, or open the engine "
            "with strict=False (--no-strict)"
        )
    if not stat.S_ISREG(status.st_mode):
        raise DamagedEngineError(f"{path}: not a regular file")
    if strict and status.st_nlink > 1:
        raise DamagedEngineError(
            f"{path}: a hard link ({status.st_nlink} names); an engine's files must be its own, copy it, or open the "
            "engine with strict=False (--no-strict)"
        )
    return status


def _chunks(path: Path, *, strict: bool) -> Iterator[bytes]:
    """The file's bytes; `strict` opens it without following a link that may have replaced it since the check."""
    try:
        descriptor = os.open(path, os.O_RDONLY | (getattr(os, "O_NOFOLLOW", 0) if strict else 0))
    except OSError as error:
        raise DamagedEngineError(f"{path}: cannot be read ({error.strerror})") from None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            yield chunk
