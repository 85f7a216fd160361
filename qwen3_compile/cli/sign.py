"""`qwen3-compile sign`: vouch for an engine with a key."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from qwen3_compile.cli.options import ENGINE
from qwen3_compile.cli.output import remark
from qwen3_compile.terminal import write


@click.command()
@ENGINE
@click.option("--key", required=True, type=click.Path(path_type=Path), help="Ed25519 private key in PEM.")
def command(engine: Path, key: Path) -> None:
    """Check the hashes of all files of ENGINE, sign it, and print the id of the key.

    The signature is written to manifest.sig inside the engine. A service opens the engine with
    Engine.open(..., trusted_keys=["public.pem"]) and refuses any other. Make a key with
    `openssl genpkey -algorithm ed25519 -out private.pem`, and its public half with
    `openssl pkey -in private.pem -pubout -out public.pem`. The passphrase of an encrypted key is asked for in the
    terminal, or taken from QWEN3_COMPILE_PASSPHRASE.
    """
    from qwen3_compile.engine.sign import PassphraseNeededError, sign

    try:
        signer = sign(engine, key, os.environ.get("QWEN3_COMPILE_PASSPHRASE"))
    except PassphraseNeededError:
        if not sys.stdin.isatty():
            raise
        passphrase = click.prompt(f"Passphrase of {key}", hide_input=True, err=True)
        signer = sign(engine, key, passphrase)
    write(f"{signer}\n")
    remark(f"{engine} is signed")
