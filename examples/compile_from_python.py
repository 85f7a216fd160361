"""Compile a model from Python, with progress and the measured accuracy.

python examples/compile_from_python.py specs/tiny-dense.yaml build/tiny-dense
"""

import argparse
import sys
import time
from collections.abc import Sequence

from qwen3_compile import CompileError, compile_engine


class PrintedStages:
    """A `qwen3_compile.Progress` that prints a line for each finished stage."""

    def expect(self, stages: Sequence[str]) -> None:
        """These stages will follow: told once, before the first."""
        print(f"{len(stages)} stages: {', '.join(stages)}")

    def begin(self, stage: str, total: int | None = None) -> None:
        """A stage starts; `total` bytes are to be worked through, where that is known."""
        del total
        self.stage, self.started = stage, time.monotonic()

    def advance(self, count: int, what: str = "") -> None:
        """So many more bytes are done: a place for a progress bar."""

    def note(self, text: str) -> None:
        """What the stage is doing now."""

    def end(self, outcome: str = "") -> None:
        """The stage is finished."""
        print(f"{self.stage:<12}{time.monotonic() - self.started:6.1f} s  {outcome}")


def main() -> None:
    """Compile, and print what validation measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a spec, a checkpoint folder, or org/name of the Hugging Face Hub")
    parser.add_argument("output", help="the engine's directory")
    arguments = parser.parse_args()
    engine = compile_engine(arguments.model, arguments.output, force=True, progress=PrintedStages())
    if engine.accuracy is not None:
        summary = engine.accuracy.summary
        print(f"mean KL {summary.mean_kl:.4f} over {summary.positions} positions")
    print(engine.path)


if __name__ == "__main__":
    try:
        main()
    except CompileError as error:  # whatever the compiler refuses, in one line
        sys.exit(f"error: {error}")
