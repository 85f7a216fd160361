"""This project and other engines on one synthetic checkpoint, alternating, in one command each:

    python benchmarks/compare.py setup FOLDER     # environments and models; once, about half an hour on two cores
    python benchmarks/compare.py run FOLDER       # measure in turns -> FOLDER/results.json
    python benchmarks/compare.py report FOLDER    # table and plots of results.json

Each round runs every contender once, in a fresh process and in rotating order, and then measures what the machine's
memory and arithmetic give. `--only` takes names of contenders (peers/contenders.py), with wildcards.
"""  # noqa: D415 - the first line introduces the commands

from __future__ import annotations

import argparse
import fnmatch
import sys
from pathlib import Path

from peers.checkpoint import TOKENIZER_FILES
from peers.contenders import CONTENDERS, Contender
from peers.environments import is_ready, make_environment
from peers.measuring import THREADS
from peers.prepare import model_path, prepare


def chosen(patterns: list[str]) -> list[Contender]:
    """The contenders that any of the patterns names; all of them when there is no pattern."""
    names = [one.name for one in CONTENDERS]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise SystemExit(f"error: no contender is named {pattern!r}: {', '.join(names)}")
    return [one for one in CONTENDERS if any(fnmatch.fnmatch(one.name, each) for each in patterns or ["*"])]


def setup(arguments: argparse.Namespace) -> None:
    """Make environments and models. An engine that cannot be set up is named, and the others go on."""
    failures = []
    contenders = chosen(arguments.only)
    for file in TOKENIZER_FILES if arguments.tokenizer else ():
        if not (arguments.tokenizer / file).is_file():
            raise SystemExit(f"error: --tokenizer {arguments.tokenizer}: expected {file} in it")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    ready = set()
    for engine in dict.fromkeys(one.engine for one in contenders):
        try:
            make_environment(engine, arguments.folder)
            ready.add(engine)
        except RuntimeError as error:
            failures.append(str(error))
    for contender in contenders:
        if contender.engine in ready:
            try:
                prepare(arguments.folder, contender, arguments.tokenizer)
            except RuntimeError as error:
                failures.append(str(error))
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        raise SystemExit(1)


def run(arguments: argparse.Namespace) -> None:
    """Measure the contenders that are set up."""
    from peers.rounds import run_rounds

    folder = arguments.folder
    wanted = chosen(arguments.only)
    engines = {engine for engine in {one.engine for one in wanted} if is_ready(engine, folder)}
    contenders = [one for one in wanted if one.engine in engines and model_path(folder, one).exists()]
    if missing := [one.name for one in wanted if one not in contenders]:
        print(f"not set up, and left out: {', '.join(missing)}", file=sys.stderr)
    if not contenders:
        raise SystemExit(f"error: {folder}: nothing is set up; run `compare.py setup {folder}` first")
    run_rounds(folder, contenders, rounds=arguments.rounds, threads=arguments.threads, quick=arguments.quick)


def report(arguments: argparse.Namespace) -> None:
    """Write the tables and the plots."""
    from peers.plots import write_plots
    from peers.report import write_report
    from peers.results import read_results

    path = arguments.folder / "results.json"
    if not path.is_file():
        raise SystemExit(f"error: {path} is not there; run `compare.py run {arguments.folder}` first")
    results = read_results(path)
    output = arguments.output or arguments.folder
    output.mkdir(parents=True, exist_ok=True)
    plots = write_plots(results, output)
    print(write_report(results, output / "comparison.md", plots))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, action in (("setup", setup), ("run", run), ("report", report)):
        command = commands.add_parser(name, help=action.__doc__)
        command.set_defaults(action=action)
        command.add_argument("folder", type=Path, help="environments, models, results")
        if name != "report":
            command.add_argument("--only", nargs="+", default=[], metavar="NAME", help="contenders, with wildcards")
        if name == "setup":
            command.add_argument(
                "--tokenizer",
                type=Path,
                metavar="DIR",
                help="holds tokenizer.json and tokenizer_config.json of Qwen3, which two exporters insist on",
            )
        if name == "run":
            command.add_argument("--rounds", type=int, default=5)
            command.add_argument("--threads", type=int, default=THREADS)
            command.add_argument("--quick", action="store_true", help="try the path on a few tokens: no use as figures")
        if name == "report":
            command.add_argument("--output", type=Path, metavar="DIR", help="where to write; default: the folder")
    arguments = parser.parse_args()
    arguments.folder = arguments.folder.resolve()
    arguments.action(arguments)


if __name__ == "__main__":
    main()
