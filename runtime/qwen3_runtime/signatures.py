"""Signatures of a manifest: who vouches for an engine, checked before anything of the engine is parsed.

`manifest.sig` lies beside `manifest.json` and is not listed in it. It holds Ed25519 signatures (RFC 8032) over the
exact bytes of `manifest.json`:

    {"schema_version": 1, "signatures": [{"key_id": "<hex>", "signature": "<base64>"}]}

The key id is the SHA-256 of the 32 bytes of the public key. It only says which signature to look at: a signature counts
if a key that the caller trusts verifies it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_runtime.errors import DamagedEngineError, RequestError, UnsupportedEngineError, UntrustedEngineError
from qwen3_runtime.installation import install_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SIGNATURES = "manifest.sig"
MAX_SIGNATURE_BYTES = 64 << 10
SCHEMA_VERSION = 1
SIGNATURE_BYTES = 64
_KEY_ID = re.compile(r"[0-9a-f]{64}")

KeyFile = str | os.PathLike[str]


@dataclass(frozen=True)
class Signature:
    """One signature of a manifest: the id of its key (hex) and 64 bytes."""

    key_id: str
    value: bytes


def key_id(public_key: bytes) -> str:
    """The id of a public key of 32 bytes: its SHA-256 in hex."""
    return hashlib.sha256(public_key).hexdigest()


def parse_signatures(raw: bytes, where: str = SIGNATURES) -> tuple[Signature, ...]:
    """Read `manifest.sig`.

    Raises:
        DamagedEngineError: it is damaged.
    """
    damaged = f"{where}: not a list of signatures as `qwen3-compile sign` writes it; sign the engine again"
    try:
        document = json.loads(raw.decode("utf-8"))
        if document["schema_version"] is not SCHEMA_VERSION:
            raise DamagedEngineError(damaged)
        found = tuple(
            Signature(str(entry["key_id"]), base64.b64decode(entry["signature"], validate=True))
            for entry in document["signatures"]
        )
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise DamagedEngineError(damaged) from None
    if not all(len(entry.value) == SIGNATURE_BYTES and _KEY_ID.fullmatch(entry.key_id) for entry in found):
        raise DamagedEngineError(damaged)
    return found


def serialize_signatures(signatures: Iterable[Signature]) -> bytes:
    """The bytes of `manifest.sig`, ordered by key, so that the same signatures give the same file."""
    entries = [
        {"key_id": signature.key_id, "signature": base64.b64encode(signature.value).decode("ascii")}
        for signature in sorted(signatures, key=lambda signature: signature.key_id)
    ]
    document = {"schema_version": SCHEMA_VERSION, "signatures": entries}
    return (json.dumps(document, indent=2) + "\n").encode("utf-8")


def check_signed(manifest: bytes, signatures: Sequence[Signature], trusted_keys: Sequence[KeyFile], where: str) -> str:
    """Hold a manifest to the keys that its user trusts.

    Args:
        manifest: the exact bytes of `manifest.json`.
        signatures: what `manifest.sig` holds; none where there is no such file.
        trusted_keys: files with Ed25519 public keys in PEM, as `openssl pkey -pubout` writes them.
        where: how errors name the engine.

    Returns:
        The id of the first trusted key that signed it.

    Raises:
        UntrustedEngineError: no trusted key signed exactly this manifest.
        UnsupportedEngineError: `cryptography` is missing.
        RequestError: a key cannot be read.
    """
    keys = {key_id(key.public_bytes_raw()): key for key in map(_public_key, trusted_keys)}
    if not keys:
        raise RequestError.at("trusted_keys", "expected at least one file with a public key, found none")
    from cryptography.exceptions import InvalidSignature

    broken = False
    for signature in signatures:
        key = keys.get(signature.key_id)
        if key is None:
            continue
        try:
            key.verify(signature.value, manifest)
        except InvalidSignature:
            broken = True
            continue
        return signature.key_id
    if broken:
        raise UntrustedEngineError(
            f"{where}: manifest.json has changed since it was signed; get the engine again from its signer"
        )
    signers = ", ".join(signature.key_id[:16] for signature in signatures) or "nobody"
    raise UntrustedEngineError(
        f"{where}: expected a signature of a trusted key ({', '.join(known[:16] for known in keys)}), "
        f"signed by {signers}; sign it with `qwen3-compile sign`, or trust the key that did"
    )


def _public_key(path: KeyFile) -> Any:  # noqa: ANN401 - Ed25519PublicKey, of a package that may be missing
    if isinstance(path, bytes) or not isinstance(path, str | os.PathLike):
        raise RequestError.at("trusted_keys", f"expected paths of public keys, found {type(path).__name__}")
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise UnsupportedEngineError(
            f"trusted_keys needs the package cryptography: {install_command('sign')}"
        ) from None
    try:
        key = load_pem_public_key(Path(path).read_bytes())
    except OSError as error:
        raise RequestError.at("trusted_keys", f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, UnsupportedAlgorithm):
        raise RequestError.at(
            "trusted_keys", f"{path}: expected an Ed25519 public key in PEM, as `openssl pkey -pubout` writes it"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        found = type(key).__name__.removesuffix("PublicKey")
        raise RequestError.at("trusted_keys", f"{path}: expected an Ed25519 key, found {found}")
    return key
