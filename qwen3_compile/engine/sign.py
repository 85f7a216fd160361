"""Signs an engine's manifest, which holds the hash of every other file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qwen3_compile.errors import CompileError
from qwen3_runtime.directory import read_engine_directory, read_signatures
from qwen3_runtime.engine_files import MANIFEST
from qwen3_runtime.installation import install_command
from qwen3_runtime.signatures import SIGNATURES, Signature, key_id, serialize_signatures

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class PassphraseNeededError(CompileError):
    """The private key is encrypted, and no passphrase was given."""


def sign(engine: Path, key_file: Path, passphrase: str | None = None) -> str:
    """Sign an engine: hash all of its files, then write or extend its `manifest.sig`.

    A second signature of the same key replaces the first; those of other keys stay if they hold.

    Args:
        engine: the engine directory.
        key_file: an Ed25519 private key in PEM, as `openssl genpkey -algorithm ed25519` writes it.
        passphrase: of an encrypted key.

    Returns:
        The id of the key.

    Raises:
        CompileError: the key cannot be used.
        EngineError: the engine does not hold together; it is not signed then.
    """
    engine = engine.resolve()  # through a link on another file system nothing could be renamed into place
    key = _private_key(key_file, passphrase)
    manifest = (engine / MANIFEST).read_bytes() if (engine / MANIFEST).is_file() else b""
    read_engine_directory(engine, "full")
    if (engine / MANIFEST).read_bytes() != manifest:
        raise CompileError(f"{engine}: the manifest changed while the files were hashed; sign it again")
    own = Signature(key_id(key.public_key().public_bytes_raw()), key.sign(manifest))
    others = [signature for signature in read_signatures(engine) if signature.key_id != own.key_id]
    partial = engine.parent / f".{engine.name}.{SIGNATURES}-{os.getpid()}"
    try:
        partial.write_bytes(serialize_signatures([own, *others]))
        partial.replace(engine / SIGNATURES)
    finally:
        partial.unlink(missing_ok=True)
    return own.key_id


def _private_key(path: Path, passphrase: str | None) -> Ed25519PrivateKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise CompileError(f"signing needs the package cryptography: {install_command('sign')}") from None
    expected = "expected an Ed25519 private key in PEM, as `openssl genpkey -algorithm ed25519` writes it"
    try:
        key = load_pem_private_key(path.read_bytes(), None if passphrase is None else passphrase.encode())
    except OSError as error:
        raise CompileError(f"{path}: cannot be read ({error.strerror})") from None
    except TypeError as error:
        if passphrase is None:
            raise PassphraseNeededError(
                f"{path}: the key is encrypted; sign in a terminal, or set QWEN3_COMPILE_PASSPHRASE"
            ) from error
        return _private_key(path, None)  # not encrypted: the passphrase is for another
    except (ValueError, UnsupportedAlgorithm):
        wrong = "" if passphrase is None else ", or the passphrase is wrong"
        raise CompileError(f"{path}: {expected}{wrong}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise CompileError(f"{path}: {expected}; found {type(key).__name__.removesuffix('PrivateKey')}")
    return key
