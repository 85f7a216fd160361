"""Where errors end: a line for people on stderr, and an exit code for scripts."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

import click

from qwen3_compile.terminal import harmless
from qwen3_graphs.errors import Qwen3Error
from qwen3_runtime.installation import install_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT or SIGTERM, as shells report it
PROGRAM = "qwen3-compile"

# Top-level modules by the smallest extra that brings them; all others come with the compiler's.
_EXTRAS = {"onnx": "cli", "psutil": "cli", "onnxruntime": "cpu", "cryptography": "sign", "triton": "tensorrt"}


def run_command(command: click.Command, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command and return an exit code; errors are printed, never raised.

    The code is what the command returned or gave to `Context.exit`, where that is an integer.

    A traceback is printed for unexpected errors, and for every error with `--traceback` before the
    subcommand or `QWEN3_COMPILE_TRACEBACK=1`.
    """
    _fill_closed_streams()
    verbose = environment.get("QWEN3_COMPILE_TRACEBACK") == "1" or _asks_for_traceback(arguments)
    try:
        code = command.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except SystemExit as error:
        if error.code == TERMINATED:
            sys.stderr.write("terminated\n")
        raise
    except BrokenPipeError:
        _close_stdout()
        return 1
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return error.exit_code
    except click.ClickException as error:
        return _report(error, _usage_message(error), error.exit_code, verbose=verbose)
    except Qwen3Error as error:
        return _report(error, str(error), 1, verbose=verbose)
    except ModuleNotFoundError as error:
        return _report(error, _missing_module(error), 1, verbose=verbose)
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:  # what could not be written is still buffered, and would fail again at exit
            _close_stdout()
        where = f"{error.filename}: " if error.filename is not None else ""
        return _report(error, f"{where}{error.strerror or error}", 1, verbose=verbose)
    except Exception as error:  # noqa: BLE001 - the last line of defense of the whole program
        message = f"unexpected {type(error).__name__}: {error} (--traceback shows where)"
        return _report(error, message, 1, verbose=verbose)
    return code if isinstance(code, int) else 0


def _report(error: Exception, message: str, code: int, *, verbose: bool) -> int:
    if verbose:
        sys.stderr.write(harmless("".join(traceback.format_exception(error))))
    for line in message.rstrip("\n").split("\n") if message else [type(error).__name__]:
        sys.stderr.write(f"error: {harmless(line)}\n")
    return code


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{message} (see `{error.ctx.command_path} --help`)"
    return message


def _missing_module(error: ModuleNotFoundError) -> str:
    name = (error.name or "").partition(".")[0]
    if not name or name.startswith("qwen3_"):
        return f"{error}: the installation is incomplete"
    return f"this command needs {name}, which is not installed: {install_command(*extras_with(name))}"


def extras_with(module: str) -> tuple[str, ...]:
    """The extras to install where a top-level module is missing; a provider comes with the command line's own."""
    extra = _EXTRAS.get(module, "build")
    return (extra, "cpu") if extra in ("cli", "build") else (extra,)


def _asks_for_traceback(arguments: Sequence[str]) -> bool:
    for argument in arguments:
        if not argument.startswith("-"):
            return False
        if argument == "--traceback":
            return True
    return False


def _close_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain about the closed pipe."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _fill_closed_streams() -> None:
    """Give standard streams that the caller closed (`>&-`) a place where nothing arrives.

    Python has None in their place. Left closed, their numbers would go to the next files that are opened, which a
    library that prints would then write to.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
