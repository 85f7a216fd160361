"""The command line: one lazily imported module for each subcommand, and one place where errors become a line."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 for an error, 2 for wrong usage, 130 when interrupted.

    Args:
        arguments: what follows the program's name; None takes them from the process.
    """
    try:
        from qwen3_compile.cli.root import root
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        from qwen3_runtime.installation import install_command

        command = install_command("cli", "cpu")
        sys.stderr.write(f"error: the command line needs {error.name}, which is not installed: {command}\n")
        return 1
    from qwen3_compile.cli.failures import run_command
    from qwen3_compile.stopping import forget_signals
    from qwen3_compile.terminal import use_utf8

    use_utf8()
    try:
        return run_command(root, list(sys.argv[1:] if arguments is None else arguments), os.environ)
    finally:
        forget_signals()
